"""Execute the operations whose arguments are all constant, and say uniform constants as fills."""

from __future__ import annotations

from dataclasses import replace

import torch

from ember.engine.interpret import resolve
from ember.engine.passes.rewriting import Rewriter, rewrite
from ember.engine.program import Node, Program, Value

# Larger results stay operations, so that folding does not blow up a program's data.
_MAX_FOLDED = 1 << 16


def fold_constants(program: Program) -> Program:
    """Return the program with constant operations executed, and without constants of one repeated number."""
    return _fill(rewrite(program, _fold))


def _fill(program: Program) -> Program:
    constants, fills = {}, []
    for value, tensor in program.constants.items():
        number = uniform(tensor) if tensor.numel() > 1 else None
        if number is None:
            constants[value] = tensor
        else:
            fills.append(
                Node("aten.full.default", (list(value.shape), number), {"dtype": value.dtype}, (value,))
            )
    nodes = [replace(node, regions=tuple(map(_fill, node.regions))) for node in program.nodes]
    return Program(program.inputs, constants, fills + nodes, program.outputs)


def _fold(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    if node.regions or node.op in _FILLS or "draw" in node.attributes:
        return None
    inputs = list(node.inputs())
    if not inputs or any(value not in rewriter.constants for value in inputs):
        return None
    if sum(_size(output) for output in node.outputs) > _MAX_FOLDED:
        return None

    def concrete(item: object) -> object:
        if isinstance(item, Value):
            return rewriter.constants[item]
        if isinstance(item, (list, tuple)):
            return type(item)(concrete(each) for each in item)
        return item

    with torch.no_grad():
        result = resolve(node.op)(
            *(concrete(each) for each in node.args),
            **{name: concrete(each) for name, each in node.kwargs.items()},
        )
    results = [result] if isinstance(result, torch.Tensor) else result
    for output, each in zip(node.outputs, results, strict=True):
        rewriter.constants[output] = each.clone(memory_format=torch.contiguous_format)
    return node.outputs


_FILLS = {"aten.full.default"}


def _size(value: Value) -> int:
    size = 1
    for extent in value.shape:
        size *= extent
    return size


def uniform(tensor: torch.Tensor) -> float | int | bool | None:
    """Return the number that all elements of a constant are, or None (also for NaN and an empty tensor)."""
    if tensor.numel() == 0:
        return None
    flat = tensor.reshape(-1)
    first = flat[0]
    # A cheap look at the end spares most constants the comparison of all elements.
    if not bool(flat[-1] == first) or not bool((flat == first).all()):
        return None
    number = first.item()
    return None if number == 0 and bool(torch.signbit(flat).any()) else number
