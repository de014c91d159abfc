"""Define tensor programs: pure, statically shaped, single-assignment lists of ATen operations.

A :class:`Program` is what capture produces, what passes rewrite and what lowering consumes. Views and in-place
operations of the captured function are gone: every value is immutable and logically contiguous, and an
operation such as ``aten.select.int`` stands for the selected *value*, not for an alias.

Besides ATen operations (named like ``aten.add.Tensor``) and ``ember.random_bits.default`` there are three
nodes with regions. ``carry``, ``xs`` and ``outer`` are tuples of :class:`Value`; ``outer`` are the values
that the regions' functions closed over, and come last among the regions' inputs:

``while_loop``  args ``(carry, outer)``, regions ``(condition, body)``; both take ``carry + outer``;
    condition returns one bool scalar, body returns the next carry; the node's outputs are the last carry.
``cond``        args ``(predicate, outer)``, regions ``(if_true, if_false)``; both take ``outer``.
``scan``        args ``(carry, xs, outer)``, attributes ``length``, ``reverse`` and ``num_carry``; the region takes
    ``carry + slices of xs + outer`` and returns ``next carry + ys``; the node's outputs are the last carry,
    then each ``y`` stacked along a new leading dimension. With ``reverse``, steps run from the last slice to
    the first and ``ys`` keep the order of ``xs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """A tensor in a program; compared by identity."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __repr__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"%{id(self) & 0xFFFFF:05x}:{kind}{list(self.shape)}"


@dataclass(eq=False, slots=True)
class Node:
    """One operation of a program."""

    op: str
    args: tuple[Any, ...]  # as the ATen signature has them; tensors are Values, possibly in nested lists
    kwargs: dict[str, Any]
    outputs: tuple[Value, ...]
    regions: tuple[Program, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    where: str | None = None  # the user's file and line
    site: str | None = None  # the sample site whose log density this belongs to

    def inputs(self) -> Iterator[Value]:
        """Yield the values that this node reads, in order, with repetitions."""
        yield from _values_in(self.args)
        yield from _values_in(tuple(self.kwargs.values()))


@dataclass(eq=False, slots=True)
class Program:
    """A pure function from input tensors to output tensors."""

    inputs: list[Value]
    constants: dict[Value, torch.Tensor]
    nodes: list[Node]
    outputs: list[Value]

    def num_operations(self) -> int:
        """Count the nodes, those inside regions included."""
        return sum(1 + sum(region.num_operations() for region in node.regions) for node in self.nodes)


def _values_in(items: tuple[Any, ...] | list[Any]) -> Iterator[Value]:
    for item in items:
        if isinstance(item, Value):
            yield item
        elif isinstance(item, (tuple, list)):
            yield from _values_in(item)
