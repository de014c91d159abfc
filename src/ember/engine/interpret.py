"""Execute a program with torch's own operations, as the reference for everything faster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from ember.engine.program import Node, Program, Value

# Their last result says which matrices of a batch failed; in a program the others are NaN there.
FACTORISATIONS = {
    "aten.linalg_cholesky_ex.default",
    "aten.linalg_inv_ex.default",
    "aten._linalg_solve_ex.default",
}

# Where torch needs what is true of all values of programs: that they are contiguous.
RESHAPES = {
    "aten.view.default",
    "aten._unsafe_view.default",
    "aten._reshape_alias.default",
    "aten.reshape.default",
}
NEED_CONTIGUOUS = {"aten.as_strided.default", "aten.as_strided_scatter.default", "aten.view.dtype"}


@cache
def resolve(op: str) -> Any:
    """Return the operation overload called ``op``, such as ``aten.add.Tensor``."""
    namespace, name, overload = op.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)


def interpret(program: Program, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Run ``program`` on tensors, one operation after the other."""
    with torch.no_grad():
        return tuple(each.clone() for each in _run(program, tensors))


def _run(program: Program, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    environment: dict[Value, torch.Tensor] = dict(program.constants)
    environment.update(zip(program.inputs, (each.detach().contiguous() for each in tensors), strict=True))

    def concrete(item: Any) -> Any:
        if isinstance(item, Value):
            return environment[item]
        if isinstance(item, (list, tuple)):
            return type(item)(concrete(each) for each in item)
        return item

    for node in program.nodes:
        args = tuple(concrete(each) for each in node.args)
        if node.regions:
            results = CONTROL[node.op](node, *args)
        else:
            kwargs = {name: concrete(each) for name, each in node.kwargs.items()}
            result = resolve(node.op)(*args, **kwargs)
            results = [result] if isinstance(result, torch.Tensor) else list(result)
            if node.op in FACTORISATIONS:
                results = spoil_failures(results)
        for value, each in zip(node.outputs, results, strict=True):
            environment[value] = each.contiguous()
    return [environment[value] for value in program.outputs]


def spoil_failures(results: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return a factorisation's results with NaN for the matrices on which it failed."""
    info = results[-1]

    def spoil(each: torch.Tensor) -> torch.Tensor:
        failed = (info != 0).reshape(info.shape + (1,) * (each.dim() - info.dim()))
        return torch.where(failed, math.nan, each) if each.is_floating_point() else each

    return [spoil(each) for each in results]


def _while_loop(node: Node, carry: Any, outer: Any) -> list[torch.Tensor]:
    condition, body = node.regions
    state = list(carry)
    while bool(_run(condition, (*state, *outer))[0]):
        state = _run(body, (*state, *outer))
    return state


def _cond(node: Node, predicate: torch.Tensor, outer: Any) -> list[torch.Tensor]:
    return _run(node.regions[0 if bool(predicate) else 1], outer)


def _scan(node: Node, carry: Any, xs: Any, outer: Any) -> list[torch.Tensor]:
    length, count = node.attributes["length"], node.attributes["num_carry"]
    state = list(carry)
    steps: list[list[torch.Tensor]] = []
    for index in reversed(range(length)) if node.attributes["reverse"] else range(length):
        results = _run(node.regions[0], (*state, *(x[index] for x in xs), *outer))
        state = results[:count]
        steps.append(results[count:])
    if node.attributes["reverse"]:
        steps.reverse()
    return state + [torch.stack(column) for column in zip(*steps, strict=True)]


CONTROL: dict[str, Any] = {"while_loop": _while_loop, "cond": _cond, "scan": _scan}
