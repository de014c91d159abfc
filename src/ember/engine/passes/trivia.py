"""Remove operations that return one of their arguments unchanged."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ember.engine.passes.constants import uniform
from ember.engine.passes.rewriting import Rewriter, rewrite
from ember.engine.program import Node, Program, Value

_COPIES = {
    "aten.clone.default", "aten.alias.default", "aten.detach.default", "aten.lift_fresh.default",
    "aten.lift_fresh_copy.default", "aten.contiguous.default", "aten.positive.default",
}  # fmt: skip
_RESHAPES = {
    "aten.view.default", "aten._unsafe_view.default", "aten.reshape.default", "aten._reshape_alias.default",
    "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.unsqueeze.default",
}  # fmt: skip
# Operations that return their first argument if shape and dtype stay.
_SAME_SHAPE = _RESHAPES | {
    "aten._to_copy.default", "aten.to.dtype", "aten.expand.default", "aten.slice.Tensor",
    "aten.sum_to_size.default", "aten.slice_backward.default",
}  # fmt: skip


def remove_trivial_operations(program: Program) -> Program:
    """Return the program without copies, idle casts and views, and arithmetic with neutral elements."""
    return rewrite(program, _rule)


def _rule(rewriter: Rewriter, node: Node) -> tuple[Value, ...] | None:
    if node.regions or len(node.outputs) != 1:
        return None
    output, first = node.outputs[0], node.args[0] if node.args else None
    if node.op in _COPIES and isinstance(first, Value):
        return (first,)
    if node.op in _SAME_SHAPE and isinstance(first, Value) and _alike(first, output):
        return (first,)
    if node.op in _RESHAPES and isinstance(first, Value):
        return _reshape(rewriter, node, first)
    if node.op == "aten.slice.Tensor":
        return _shortened(rewriter, node, first)
    if node.op == "aten.sum.dim_IntList":
        return _padded(rewriter, node, first)
    found = _neutral(rewriter, node)
    if found is not None:
        return (found,)
    return _composed(rewriter, node, first)


def _alike(one: Value, other: Value) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _reshape(rewriter: Rewriter, node: Node, source: Value) -> tuple[Value, ...] | None:
    """Say every change of shape as one view of the first source."""
    output = node.outputs[0]
    producer = rewriter.producer.get(source)
    while producer is not None and producer.op == "aten.view.default":
        source = producer.args[0]
        producer = rewriter.producer.get(source)
    if source.shape == output.shape:
        return (source,)
    rewriter.append(
        Node(
            "aten.view.default",
            (source, list(output.shape)),
            {},
            node.outputs,
            where=node.where,
            site=node.site,
        )
    )
    return node.outputs


def _shortened(rewriter: Rewriter, node: Node, first: Any) -> tuple[Value, ...] | None:
    """Draw no more of a permutation than its beginning, if that is what is read."""
    producer = rewriter.producer.get(first)
    if producer is None or producer.op != "ember.permutation.default":
        return None
    defaults: list[Any] = [0, None, None, 1]
    dim, start, _, step = [*node.args[1:], *defaults[len(node.args) - 1 :]]
    if dim not in (0, -1) or start not in (0, None) or step != 1:
        return None
    key, n, _, *stream = producer.args
    args = (key, n, node.outputs[0].shape[0], *stream)
    rewriter.append(replace(producer, args=args, outputs=node.outputs))
    return node.outputs


def _padded(rewriter: Rewriter, node: Node, first: Any) -> tuple[Value, ...] | None:
    """Sum what a slice's gradient has, not the zeros that it is padded with along a summed dim."""
    producer = rewriter.producer.get(first)
    dims = node.args[1] if len(node.args) > 1 else None
    if producer is None or producer.op != "aten.slice_backward.default" or not dims or node.kwargs:
        return None
    rank = len(first.shape)
    if producer.args[2] % rank not in [dim % rank for dim in dims]:
        return None
    rewriter.append(replace(node, args=(producer.args[0], *node.args[1:])))
    return node.outputs


def _composed(rewriter: Rewriter, node: Node, first: Any) -> tuple[Value, ...] | None:
    """Undo an operation by its inverse: double negation, transposition, and casts that widen and narrow."""
    producer = rewriter.producer.get(first) if isinstance(first, Value) else None
    if (
        producer is None
        or producer.op != node.op
        or not producer.args
        or not isinstance(producer.args[0], Value)
    ):
        return None
    source, output = producer.args[0], node.outputs[0]
    if node.op in ("aten.neg.default", "aten.t.default") and _alike(source, output):
        return (source,)
    if node.op == "aten.permute.default":
        inner, outer = producer.args[1], node.args[1]
        rank = len(source.shape)
        if [inner[dim % rank] % rank for dim in outer] == list(range(rank)):
            return (source,)
    return None


def _number(rewriter: Rewriter, item: Any) -> float | int | bool | None:
    """Return the number that an argument is everywhere, or None."""
    if isinstance(item, (bool, int, float)):
        return item
    if isinstance(item, Value):
        constant = rewriter.constants.get(item)
        if constant is not None:
            return uniform(constant)
        producer = rewriter.producer.get(item)
        if producer is not None and producer.op == "aten.full.default":
            number: float | int | bool = producer.args[1]
            return number
    return None


def _neutral(rewriter: Rewriter, node: Node) -> Value | None:
    """Return the argument that arithmetic with a neutral element leaves as it is, or None."""
    name = node.op.split(".")[1]
    if name not in ("add", "sub", "mul", "div", "pow") or len(node.args) < 2:
        return None
    if any(key not in ("alpha",) or value != 1 for key, value in node.kwargs.items()):
        return None
    first, second = node.args[:2]
    output = node.outputs[0]
    neutral = 0 if name in ("add", "sub") else 1
    if isinstance(first, Value) and _alike(first, output) and _is(_number(rewriter, second), neutral):
        return first
    commutes = name in ("add", "mul")
    if (
        commutes
        and isinstance(second, Value)
        and _alike(second, output)
        and _is(_number(rewriter, first), neutral)
    ):
        return second
    return None


def _is(number: float | int | bool | None, neutral: int) -> bool:
    return number is not None and not math.isnan(number) and number == neutral
