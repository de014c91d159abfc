"""Find operations inside a loop that do not change from one repetition to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Protocol, TypeVar

from ember.engine.program import Node

from .tensors import Tensor

# Operations that check indices stay where they are: if a loop makes no step, its indices need not be valid.
_CHECKED = frozenset(
    [
        "index",
        "index_select",
        "gather",
        "take",
        "embedding",
        "index_put",
        "index_add",
        "index_copy",
        "index_fill",
        "index_reduce",
        "put",
        "scatter",
        "scatter_add",
        "scatter_reduce",
        "embedding_dense_backward",
        "take_along_dim",
        "_unsafe_index",
    ]
)
_ALWAYS = 1 << 16  # elements of a result that may always be kept for all repetitions


class Place(Protocol):
    """A block being built, at some depth of regions."""

    parent: Any
    repeats: bool
    depth: int


Anywhere = TypeVar("Anywhere", bound=Place)


def home_of(builder: Anywhere, node: Node, arguments: Sequence[Any]) -> Anywhere:
    """Return the outermost builder in which an operation can be computed once for all repetitions.

    Results much larger than the operands stay inside: they cost more memory than time.
    """
    if not builder.repeats or node.regions or node.op.split(".")[1] in _CHECKED:
        return builder
    operands = list(_tensors_in(arguments))
    size = sum(prod(value.shape) for value in node.outputs)
    if size > max(_ALWAYS, 2 * sum(tensor.numel for tensor in operands)):
        return builder
    deepest = max((tensor.depth for tensor in operands), default=0)
    while builder.repeats and builder.parent is not None and builder.depth > deepest:
        builder = builder.parent
    return builder


def _tensors_in(items: Sequence[Any]) -> Iterator[Tensor]:
    for item in items:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _tensors_in(item)
