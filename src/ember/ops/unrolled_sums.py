"""Sum products of plated tensors slice by slice, at exponential cost, for comparison."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.ops.equations import Equation
from ember.ops.plated_sums import contract_factors
from ember.ops.rings import Ring
from ember.poutine.elimination.factors import Dim, Factor, Plates, align

Variable = tuple[int, tuple[int, ...]]  # a dim, and its place in its plates
Slice = tuple[list[Variable], Tensor]


def unrolled(equation: Equation, operands: Sequence[Tensor]) -> list[Slice]:
    """Return all slices of the operands, with the variables that they are over."""
    slices: list[Slice] = []
    for factor in equation.factors(operands):
        plates = [dim for dim in factor.dims if isinstance(dim, str)]
        variables = [dim for dim in factor.dims if isinstance(dim, int)]
        tensor = align(factor, [*plates, *variables])
        for place in _places(plates, equation.sizes):
            names = [_variable(v, equation.plates_of[v], place) for v in variables]
            slices.append((names, tensor[tuple(place.values())]))
    return slices


def joined_slices(equation: Equation, slices: Sequence[Slice], output: str, ring: Ring) -> Tensor:
    """Return a result: for each slice of its plates, the product of all slices, summed."""
    plates = [d for d in output if d in equation.plates]
    summed = [d for d in output if d not in equation.plates]
    numbers: dict[Any, int] = {}
    pieces = []
    for names, tensor in slices:
        dims: tuple[Dim, ...] = tuple(numbers.setdefault(name, len(numbers)) for name in names)
        pieces.append(Factor(dims, tensor, frozenset()))
    results = []
    for place in _places(plates, equation.sizes):
        kept = [numbers[_variable(ord(d), equation.plates_of[ord(d)], place)] for d in summed]
        whole = contract_factors(pieces, [each for each in numbers.values() if each not in kept], ring)
        results.append(align(whole, kept))
    order = [*plates, *summed]
    table = torch.stack(results).reshape([equation.sizes[d] for d in order])
    return table.permute([order.index(d) for d in output])


def _places(plates: Sequence[str], sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    for place in itertools.product(*(range(sizes[plate]) for plate in plates)):
        yield dict(zip(plates, place, strict=True))


def _variable(dim: int, plates: Plates, place: Mapping[str, int]) -> Variable:
    return dim, tuple(place[plate] for plate in sorted(plates))
