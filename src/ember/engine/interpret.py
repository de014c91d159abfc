"""Execute a program with torch's own operations, as the reference for everything faster."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from ember.engine.program import Program, Value


@lru_cache(maxsize=None)
def resolve(op: str) -> Any:
    """Return the operation overload called ``op``, such as ``aten.add.Tensor``."""
    namespace, name, overload = op.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)


def interpret(program: Program, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Run ``program`` on tensors, one operation after the other."""
    with torch.no_grad():
        return tuple(each.clone() for each in _run(program, tensors))


def _run(program: Program, tensors: Any) -> list[torch.Tensor]:
    environment: dict[Value, torch.Tensor] = dict(program.constants)
    environment.update(zip(program.inputs, (each.detach() for each in tensors), strict=True))

    def concrete(item: Any) -> Any:
        if isinstance(item, Value):
            return environment[item]
        if isinstance(item, (list, tuple)):
            return type(item)(concrete(each) for each in item)
        return item

    for node in program.nodes:
        args = tuple(concrete(each) for each in node.args)
        kwargs = {name: concrete(each) for name, each in node.kwargs.items()}
        result = resolve(node.op)(*args, **kwargs)
        results = [result] if isinstance(result, torch.Tensor) else result
        for value, each in zip(node.outputs, results, strict=True):
            environment[value] = each.contiguous()
    return [environment[value] for value in program.outputs]
