"""Hold many factors of one form in one tensor, so that they are summed out together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember.poutine.elimination.factors import Factor, Plates


class Rows(NamedTuple):
    """Factors that differ only in their numbers and in the variables that they are over.

    The tensor has one axis for each variable, then one for each plate, then one for the rows: the many come
    last, where they are neighbours in memory. Where all rows have the same numbers, the last axis may have
    size 1. ``variables`` are those of each row, in the order of their axes.
    """

    tensor: Tensor
    variables: tuple[tuple[int, ...], ...]
    plate_names: tuple[str, ...]
    scale: Any = 1.0

    @property
    def plates(self) -> Plates:
        """Names of the plates that each row is repeated over."""
        return frozenset(self.plate_names)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the variables of each row."""
        return tuple(self.tensor.shape[: self.tensor.ndim - 1 - len(self.plate_names)])

    @property
    def plate_sizes(self) -> tuple[int, ...]:
        """Sizes of the plates."""
        return tuple(self.tensor.shape[len(self.sizes) : -1])

    @property
    def form(self) -> Any:
        """What rows must have in common to be in one tensor."""
        return tuple(self.tensor.shape[:-1]), self.plate_names, scale_key(self.scale), self.tensor.dtype

    @property
    def is_shared(self) -> bool:
        """Whether all rows have the same numbers, held once."""
        return self.tensor.shape[-1] < len(self.variables)

    def row(self, position: int) -> Factor:
        """Return one factor."""
        dims: tuple[Any, ...] = (*self.variables[position], *self.plate_names)
        tensor = self.tensor[..., 0 if self.is_shared else position]
        return Factor(dims, tensor, self.plates, self.scale)

    def take(self, positions: Sequence[int]) -> Rows:
        """Return some of the rows, in the order given."""
        if list(positions) == list(range(len(self.variables))):
            return self
        variables = tuple(self.variables[position] for position in positions)
        return self._replace(tensor=self.numbers(positions), variables=variables)

    def numbers(self, positions: Sequence[int]) -> Tensor:
        """Return the tensor of some of the rows, in the order given; of size 1 where all are the same."""
        return self.tensor if self.is_shared else take(self.tensor, positions)


def variables_in(factor: Factor | Rows) -> set[int]:
    """Return the variables of a factor, or of all rows."""
    if isinstance(factor, Factor):
        return set(factor.variables)
    return {variable for row in factor.variables for variable in row}


def scale_key(scale: Any) -> Any:
    """Return what is equal for equal scales; tensors, whose values are not read, are equal to themselves."""
    return ("tensor", id(scale)) if isinstance(scale, Tensor) else float(scale)


def take(tensor: Tensor, positions: Sequence[int], dim: int = -1) -> Tensor:
    """Select along a dim, by a view where the positions are evenly spaced."""
    count = len(positions)
    step = positions[1] - positions[0] if count > 1 else 1
    if step > 0 and list(positions) == list(range(positions[0], positions[0] + count * step, step)):
        index = [slice(None)] * tensor.ndim
        index[dim] = slice(positions[0], positions[-1] + 1, step)
        return tensor[tuple(index)]
    return tensor.index_select(dim, torch.tensor(positions, device=tensor.device))


def rows_of(factor: Factor) -> Rows:
    """Return one factor as rows of its own, with its variables in ascending order."""
    variables = sorted(factor.variables)
    order: list[Any] = [*variables, *sorted(factor.plates)]
    axes = [factor.dims.index(dim) for dim in order]
    tensor = factor.tensor if axes == sorted(axes) else factor.tensor.permute(axes)
    return Rows(tensor.unsqueeze(-1), (tuple(variables),), tuple(order[len(variables) :]), factor.scale)


def gathered(factors: Iterable[Factor | Rows]) -> list[Rows]:
    """Put all factors of one form in one tensor."""
    groups: dict[Any, list[Rows]] = {}
    for each in factors:
        rows = rows_of(each) if isinstance(each, Factor) else each
        groups.setdefault(rows.form, []).append(rows)
    return [joined(group) for group in groups.values()]


def joined(group: Sequence[Rows]) -> Rows:
    """Concatenate rows of one form; rows over the same variables become one, their product."""
    rows = group[0]
    if len(group) > 1:
        variables = tuple(each for part in group for each in part.variables)
        rows = rows._replace(tensor=torch.cat([_every(part) for part in group], -1), variables=variables)
    return multiplied(rows)


def multiplied(rows: Rows) -> Rows:
    """Multiply the rows over the same variables."""
    places: dict[tuple[int, ...], int] = {}
    targets = [places.setdefault(each, len(places)) for each in rows.variables]
    if len(places) == len(targets):
        return rows
    if len(places) == 1:
        tensor = _every(rows).sum(-1, keepdim=True)
    else:
        zeros = rows.tensor.new_zeros((*rows.tensor.shape[:-1], len(places)))
        tensor = zeros.index_add(-1, torch.tensor(targets, device=rows.tensor.device), _every(rows))
    return rows._replace(tensor=tensor, variables=tuple(places))


def _every(rows: Rows) -> Tensor:
    """Return the tensor with numbers for each row."""
    return rows.tensor.expand(*rows.tensor.shape[:-1], len(rows.variables))


def separated(factors: Iterable[Factor | Rows]) -> list[Factor]:
    """Return all factors one by one."""
    found: list[Factor] = []
    for each in factors:
        if isinstance(each, Factor):
            found.append(each)
        else:
            found.extend(each.row(position) for position in range(len(each.variables)))
    return found
