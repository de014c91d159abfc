"""Multiply and sum along a chain: scaled probabilities, which is fast, or logarithms, exact in any case."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ember.poutine.elimination.factors import log_sum_exp


class Operand(NamedTuple):
    """A table: one axis for each label, then those that all tables have (plates, pieces)."""

    labels: tuple[int, ...]
    tensor: Tensor

    def over(self, labels: Sequence[int]) -> Tensor:
        """Return the tensor with an axis for each of ``labels``, of size 1 where it has none."""
        tensor, count = self.tensor, len(self.labels)
        order = sorted(range(count), key=lambda axis: labels.index(self.labels[axis]))
        if order != list(range(count)):
            tensor = tensor.permute(*order, *range(count, tensor.ndim))
        sizes = iter(tensor.shape)
        shape = [next(sizes) if label in self.labels else 1 for label in labels]
        return tensor.reshape((*shape, *sizes))


class Algebra(Protocol):
    """How tables are held, multiplied and summed."""

    def enter(self, logarithms: Tensor, axes: int, own: Sequence[int] = ()) -> tuple[Tensor, Any]:
        """Return a table as it is held, and the logarithms of its scales.

        :param axes: number of first axes over which one scale is common.
        :param own: axes of these over which a sum is to be at most 1.
        """

    def identity(self, size: int, like: Tensor) -> Tensor:
        """Return the table that says that two variables are equal."""

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Multiply tables element by element."""

    def sum(self, table: Tensor, axes: list[int]) -> Tensor:
        """Sum over axes."""

    def settle(self, table: Tensor, axes: list[int]) -> tuple[Tensor, Any]:
        """Return the table after a step, and what is to be known of its scale."""

    def scales(self, settled: Any) -> Any:
        """Return the logarithm of the scales of all steps together."""

    def leave(self, table: Tensor, axes: list[int], summed: bool) -> Tensor:
        """Return the logarithms, summed over the axes if asked."""


class Stage(NamedTuple):
    """One product of the carried table with another one, and what is summed out of it."""

    position: int
    labels: tuple[int, ...]  # of the product
    left: tuple[int, ...]  # of these, those that stay


def stages(
    carried: tuple[int, ...],
    others: Sequence[tuple[int, ...]],
    kept: Collection[int],
    sizes: Mapping[int, int],
) -> list[Stage]:
    """Return an order in which to multiply tables, and sum out each label that is in no other table.

    :param carried: labels of the table that is multiplied by the others.
    :param others: labels of these.
    :param kept: labels that are not summed out.
    """
    waiting, found = dict(enumerate(others)), []

    def joined(position: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        labels = (*carried, *(label for label in waiting[position] if label not in carried))
        needed = {label for other, each in waiting.items() if other != position for label in each}
        return labels, tuple(label for label in labels if label in needed or label in kept)

    def cost(position: int) -> tuple[int, int]:
        labels, left = joined(position)
        return elements(left, sizes), elements(labels, sizes)

    while waiting:
        position = min(waiting, key=cost)
        labels, carried = joined(position)
        del waiting[position]
        found.append(Stage(position, labels, carried))
    return found


def elements(labels: Collection[int], sizes: Mapping[int, int]) -> int:
    """Return the number of elements of a table."""
    return math.prod(sizes[label] for label in labels)


def contract(
    carried: Operand, others: Sequence[Operand], kept: Collection[int], sizes: Mapping[int, int], by: Algebra
) -> Operand:
    """Multiply tables, and sum out all labels that are not kept."""
    for position, labels, left in stages(carried.labels, [each.labels for each in others], kept, sizes):
        table = by.product(carried.over(labels), others[position].over(labels))
        axes = [axis for axis, label in enumerate(labels) if label not in left]
        carried = Operand(left, by.sum(table, axes) if axes else table)
    return carried


class Logarithms:
    """Tables of logarithms, added where probabilities are multiplied."""

    def enter(self, logarithms: Tensor, axes: int, own: Sequence[int] = ()) -> tuple[Tensor, Any]:
        return logarithms, None

    def identity(self, size: int, like: Tensor) -> Tensor:
        return like.new_full((size, size), -math.inf).fill_diagonal_(0.0)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right

    def sum(self, table: Tensor, axes: list[int]) -> Tensor:
        return log_sum_exp(table, axes)

    def settle(self, table: Tensor, axes: list[int]) -> tuple[Tensor, Any]:
        return table, None

    def scales(self, settled: Any) -> Any:
        return None

    def leave(self, table: Tensor, axes: list[int], summed: bool) -> Tensor:
        return log_sum_exp(table, axes) if summed else table


class Probabilities:
    """Tables of probabilities, scaled so that the largest is 1.

    The scales carry no gradient: what they stand for does not depend on them. Whether numbers that are too
    small to be held are missed is watched in two ways, of which one must say that they are not. Either there
    were none: all results of steps are far from too small. Or they do not matter: factors are scaled so that
    no step makes the sum of a table grow; what is lost at one step therefore makes up, of the result, at
    most its size over the product of the scales of the later steps.

    :param dtype: of the tables.
    :param log_count: logarithm of an upper bound of how often what is lost in one element counts.
    """

    def __init__(self, dtype: torch.dtype, log_count: float) -> None:
        information = torch.finfo(dtype)
        self._tiny = math.log(information.tiny)
        self._allowed = math.log(information.eps) - 5.0 - log_count
        self._lowest: list[Tensor] = []
        self._shrinkage: list[Tensor] = []

    def enter(self, logarithms: Tensor, axes: int, own: Sequence[int] = ()) -> tuple[Tensor, Any]:
        every = list(range(axes))
        top = logarithms.detach().amax(every, keepdim=True)
        top = torch.where(torch.isfinite(top), top, 0.0)
        relative = logarithms - top
        self._lowest.append(relative.detach().amin())
        table = relative.exp()
        if own:
            total = table.detach().sum(list(own), keepdim=True).amax(every, keepdim=True)
            total = torch.where(total > 0, total, 1.0)
            table, top = table / total, top + total.log()
        return table, top

    def identity(self, size: int, like: Tensor) -> Tensor:
        return torch.eye(size, dtype=like.dtype, device=like.device)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        return left * right

    def sum(self, table: Tensor, axes: list[int]) -> Tensor:
        return table.sum(axes)

    def settle(self, table: Tensor, axes: list[int]) -> tuple[Tensor, Any]:
        seen = table.detach()
        top, low = seen.amax(axes, keepdim=True), seen.amin(axes, keepdim=True)
        return table * (1.0 / torch.where(top > 0, top, 1.0)), (top, low)

    def scales(self, settled: Any) -> Any:
        tops, lows = settled
        logs = tops.log()
        self._lowest.append(lows.amin().log())
        self._shrinkage.append((-logs).clamp(min=0.0).sum(0).amax())
        return logs.sum(0)

    def leave(self, table: Tensor, axes: list[int], summed: bool) -> Tensor:
        if summed:
            table = table.sum(axes)
        else:
            self._shrinkage.append(-table.detach().amin().log())
        possible = table > 0
        return torch.where(possible, torch.where(possible, table, 1.0).log(), -math.inf)

    def is_safe(self) -> Tensor:
        """Say whether nothing that matters was too small to be held; false also for what is not a number."""
        lost = torch.stack(self._shrinkage).sum() + self._tiny
        lowest = torch.stack(self._lowest).amin()
        return (lowest >= 0.94 * self._tiny) | (lost <= self._allowed)
