"""Compute equal things once: the same operation on the same values, and equal constants."""

from __future__ import annotations

from typing import Any

import torch

from ember.engine.passes.copying import map_values
from ember.engine.passes.rewriting import Rewriter, rewrite
from ember.engine.program import Node, Program, Value


def share_common_subexpressions(program: Program) -> Program:
    """Return the program with repeated operations and constants merged, in each region by itself."""
    return rewrite(_share_constants(program), _Sharing())


class _Sharing:
    """Remembers, for each program being rebuilt, which operations it has."""

    def __init__(self) -> None:
        self._seen: dict[Rewriter, dict[Any, Node]] = {}

    def __call__(self, rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
        if node.regions:
            return None
        seen = self._seen.setdefault(rewriter, {})
        known = seen.setdefault(_key(node), node)
        return None if known is node else known.outputs


def _key(node: Node) -> Any:
    # Two draws are never the same, whatever their arguments.
    draw = node.attributes.get("draw")
    return node.op, draw, _hashable(node.args), _hashable(tuple(sorted(node.kwargs.items())))


def _hashable(item: Any) -> Any:
    if isinstance(item, (list, tuple)):
        return tuple(_hashable(each) for each in item)
    if isinstance(item, Value):
        return item
    # The type and text keep 1, 1.0 and True, and 0.0 and -0.0, apart.
    return type(item), repr(item)


def _share_constants(program: Program) -> Program:
    seen: dict[Any, Value] = {}
    merged: dict[Value, Value] = {}
    for value, tensor in program.constants.items():
        key = (tensor.dtype, tuple(tensor.shape), _bytes(tensor))
        first = seen.setdefault(key, value)
        if first is not value:
            merged[value] = first
    nodes = [
        Node(
            node.op,
            map_values(node.args, lambda value: merged.get(value, value)),
            {
                name: map_values(each, lambda value: merged.get(value, value))
                for name, each in node.kwargs.items()
            },
            node.outputs,
            tuple(_share_constants(region) for region in node.regions),
            node.attributes,
            node.where,
            node.site,
        )
        for node in program.nodes
    ]
    constants = {value: tensor for value, tensor in program.constants.items() if value not in merged}
    return Program(program.inputs, constants, nodes, [merged.get(value, value) for value in program.outputs])


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()
