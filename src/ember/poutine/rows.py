"""Hold many factors of one form in one tensor, so that they are summed out together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember.poutine.factors import Factor, Plates


class Rows(NamedTuple):
    """Factors that differ only in their numbers and in the variables that they are over.

    The tensor has one axis for the rows, then one for each plate, then one for each variable; ``variables``
    are those of each row, in the order of their axes.
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
        return tuple(self.tensor.shape[1 + len(self.plate_names) :])

    @property
    def form(self) -> Any:
        """What rows must have in common to be in one tensor."""
        return tuple(self.tensor.shape[1:]), self.plate_names, scale_key(self.scale), self.tensor.dtype

    def row(self, position: int) -> Factor:
        """Return one factor."""
        dims: tuple[Any, ...] = (*self.plate_names, *self.variables[position])
        return Factor(dims, self.tensor[position], self.plates, self.scale)

    def take(self, positions: Sequence[int]) -> Rows:
        """Return some of the rows, in the order given."""
        if list(positions) == list(range(len(self.variables))):
            return self
        variables = tuple(self.variables[position] for position in positions)
        return self._replace(tensor=take_rows(self.tensor, positions), variables=variables)


def scale_key(scale: Any) -> Any:
    """Return what is equal for equal scales; tensors, whose values are not read, are equal to themselves."""
    return ("tensor", id(scale)) if isinstance(scale, Tensor) else float(scale)


def take_rows(tensor: Tensor, positions: Sequence[int]) -> Tensor:
    """Select along the first axis, by a view where the positions are evenly spaced."""
    count = len(positions)
    step = positions[1] - positions[0] if count > 1 else 1
    if step > 0 and list(positions) == list(range(positions[0], positions[0] + count * step, step)):
        return tensor[positions[0] : positions[-1] + 1 : step]
    return tensor.index_select(0, torch.tensor(positions, device=tensor.device))


def rows_of(factor: Factor) -> Rows:
    """Return one factor as rows of its own, with its variables in ascending order."""
    order: list[Any] = [*sorted(factor.plates), *sorted(factor.variables)]
    axes = [factor.dims.index(dim) for dim in order]
    tensor = factor.tensor if axes == sorted(axes) else factor.tensor.permute(axes)
    names = tuple(order[: len(factor.plates)])
    return Rows(tensor.unsqueeze(0), (tuple(order[len(factor.plates) :]),), names, factor.scale)


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
        rows = rows._replace(tensor=torch.cat([part.tensor for part in group]), variables=variables)
    return multiplied(rows)


def multiplied(rows: Rows) -> Rows:
    """Multiply the rows over the same variables."""
    places: dict[tuple[int, ...], int] = {}
    targets = [places.setdefault(each, len(places)) for each in rows.variables]
    if len(places) == len(targets):
        return rows
    if len(places) == 1:
        tensor = rows.tensor.sum(0, keepdim=True)
    else:
        zeros = rows.tensor.new_zeros((len(places), *rows.tensor.shape[1:]))
        tensor = zeros.index_add(0, torch.tensor(targets, device=rows.tensor.device), rows.tensor)
    return rows._replace(tensor=tensor, variables=tuple(places))


def separated(factors: Iterable[Factor | Rows]) -> list[Factor]:
    """Return all factors one by one."""
    found: list[Factor] = []
    for each in factors:
        if isinstance(each, Factor):
            found.append(each)
        else:
            found.extend(each.row(position) for position in range(len(each.variables)))
    return found
