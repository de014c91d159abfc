"""Add and multiply along a chain: with scaled probabilities, which is fast, or with logarithms, always exact."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ember.poutine.factors import log_sum_exp


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

    def enter(self, logarithms: Tensor, axes: int) -> tuple[Tensor, Any]:
        """Return a table as it is held, and the logarithms of its scales; its first axes are scaled alike."""

    def identity(self, size: int, like: Tensor) -> Tensor: ...

    def product(self, left: Tensor, right: Tensor) -> Tensor: ...

    def sum(self, table: Tensor, axes: list[int]) -> Tensor: ...

    def settle(self, table: Tensor, axes: list[int]) -> tuple[Tensor, Any]:
        """Return the table after a step, and what is to be known of its scale."""

    def scales(self, settled: Any) -> Any:
        """Return the logarithm of the scales of all steps together."""

    def weighted(self, table: Tensor, scales: Any, axes: list[int]) -> tuple[Tensor, Any]:
        """Multiply a table by its scales along ``axes``; returns what scale is left."""

    def leave(self, table: Tensor) -> Tensor:
        """Return the logarithms."""


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

    def enter(self, logarithms: Tensor, axes: int) -> tuple[Tensor, Any]:
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

    def weighted(self, table: Tensor, scales: Any, axes: list[int]) -> tuple[Tensor, Any]:
        return table, None

    def leave(self, table: Tensor) -> Tensor:
        return table


class Probabilities:
    """Tables of probabilities, in which the largest is 1.

    The scales carry no gradient: what they stand for does not depend on them. It is watched that no
    probability underflows. As long as all are positive, it is enough that each result of a step is far from
    that; where some are zero, all numbers must be so large that their products are.

    :param logarithms: of all factors; where one is minus infinite, a probability is zero.
    :param sparse: whether the algorithm brings in zeros of its own.
    """

    def __init__(self, logarithms: Sequence[Tensor], sparse: bool) -> None:
        zeros = [(each.detach() == -math.inf).any() for each in logarithms]
        some = torch.stack(zeros).any() | sparse
        dtype = logarithms[0].dtype
        tiny = math.log(torch.finfo(dtype).tiny)
        self._blank = some.to(dtype)
        self._floor = torch.where(some, tiny / len(logarithms), 0.94 * tiny).to(dtype)
        self._lowest: list[Tensor] = []

    def enter(self, logarithms: Tensor, axes: int) -> tuple[Tensor, Any]:
        top = logarithms.detach().amax(list(range(axes)), keepdim=True)
        top = torch.where(torch.isfinite(top), top, 0.0)
        relative = logarithms - top
        self._watch(torch.where(relative.detach() == -math.inf, 0.0, relative.detach()))
        return relative.exp(), top

    def identity(self, size: int, like: Tensor) -> Tensor:
        return torch.eye(size, dtype=like.dtype, device=like.device)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        return left * right

    def sum(self, table: Tensor, axes: list[int]) -> Tensor:
        return table.sum(axes)

    def settle(self, table: Tensor, axes: list[int]) -> tuple[Tensor, Any]:
        seen = table.detach()
        top = seen.amax(axes, keepdim=True)
        top = torch.where(top > 0, top, 1.0)
        inverse = 1.0 / top
        low = torch.where(seen > 0, seen, self._blank).amin(axes, keepdim=True)
        return table * inverse, (top, low * inverse)

    def scales(self, settled: Any) -> Any:
        tops, lows = settled
        self._watch(torch.where(lows > 0, lows, 0.0).log())
        return tops.log().sum(0)

    def weighted(self, table: Tensor, scales: Any, axes: list[int]) -> tuple[Tensor, Any]:
        top = scales.amax(axes, keepdim=True)
        weighted = table * (scales - top).exp()
        seen = weighted.detach()
        self._watch(torch.where(seen > 0, seen, self._blank).log())
        return weighted, top

    def leave(self, table: Tensor) -> Tensor:
        possible = table > 0
        return torch.where(possible, torch.where(possible, table, 1.0).log(), -math.inf)

    def _watch(self, logarithms: Tensor) -> None:
        self._lowest.append(logarithms.amin())

    def is_safe(self) -> Tensor:
        """Say whether nothing underflowed; false also for what is not a number."""
        return torch.stack(self._lowest).amin() >= self._floor
