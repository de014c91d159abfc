"""Compare compiled programs with the reference interpreter, on this machine and a plain one."""

from __future__ import annotations

import math

import torch

from ember.engine import machine
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.interpret import interpret, resolve
from ember.engine.program import Node, Program, Value

# The plain machine has two lanes and no masks: other loops, other tails.
PLAIN = machine.make_target("x86-64", "") if machine.host().cpu != "generic" else machine.host()
TARGETS = (machine.host(), PLAIN)

EDGES = [
    0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 1.5, -2.5,
    5e-324, -5e-324,
    1e-310, 1e308, -1e308, 709.7, -745.0, 1e-17, -1e-17, 20.5, -20.5, 1e5, 37.0,
]  # fmt: skip
SHAPES = [(), (1,), (0,), (3,), (8,), (33,), (2, 3), (1, 5), (4, 1), (3, 0), (2, 3, 4), (70, 3)]


def tensor(shape, dtype=torch.float64, seed=0, low=None, high=None):
    """Make a tensor of arbitrary numbers."""
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if not dtype.is_floating_point:
        smallest = 0 if dtype == torch.uint8 else -9
        return torch.randint(
            smallest if low is None else low, 10 if high is None else high, shape, generator=generator
        ).to(dtype)
    if low is not None:
        return (low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)).to(dtype)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) * 2


def same(found, expected, rtol=1e-11, atol=1e-13):
    """Assert that tensors agree in shape, dtype and numbers."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if expected.dtype == torch.float32:
        rtol, atol = max(rtol, 3e-6), max(atol, 1e-6)
    torch.testing.assert_close(found, expected.contiguous(), rtol=rtol, atol=atol, equal_nan=True)


def agree(function, *tensors, rtol=1e-11, atol=1e-13, targets=TARGETS, key=None):
    """Assert that the compiled function gives what the interpreter gives; return the last one compiled."""
    program = capture(function, *tensors, key=key)
    tensors = tensors if key is None else (*tensors, key)
    expected = interpret(program, *tensors)
    for target in targets:
        compiled = compile(program, target, use_disk=False)
        for one, other in zip(compiled(*tensors), expected, strict=True):
            same(one, other, rtol, atol)
    return compiled


def agree_on_operations(calls, *tensors, targets=TARGETS):
    """Assert that single operations, given as (name, arguments after the tensors), agree with eager torch."""
    inputs = [Value(tuple(each.shape), each.dtype) for each in tensors]
    nodes, expected = [], []
    for op, *arguments in calls:
        options = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
        result = resolve(op)(*tensors, *arguments, **options)
        output = Value(tuple(result.shape), result.dtype)
        nodes.append(Node(op, (*inputs, *arguments), options, (output,)))
        expected.append(result)
    program = Program(inputs, {}, nodes, [node.outputs[0] for node in nodes])
    for target in targets:
        for one, other in zip(compile(program, target, use_disk=False)(*tensors), expected, strict=True):
            same(one, other)


def gradient_of(function):
    """Return a function that computes a result, and the gradients of the sum of its squares."""

    def value_and_gradient(*tensors):
        with torch.enable_grad():
            leaves = [each.detach().requires_grad_(each.is_floating_point()) for each in tensors]
            result = function(*leaves)
            total = (result * result).sum()
            wanted = [each for each in leaves if each.requires_grad]
            found = torch.autograd.grad(total, wanted, allow_unused=True)
        return [result.detach(), *(each for each in found if each is not None)]

    return value_and_gradient
