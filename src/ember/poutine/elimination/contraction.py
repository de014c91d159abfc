"""Combine the factors of one component of a graph, and sum variables out, in a good order."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ember.errors import message
from ember.poutine.elimination.factors import Dim, Factor, Variable, align, joined_dims
from ember.poutine.elimination.like_variables import Reduce
from ember.poutine.enum_messenger import LARGEST_TABLE


class Step(NamedTuple):
    """One summation: a tensor over ``dims`` from which the variables ``dropped`` are summed out."""

    dims: tuple[Dim, ...]
    tensor: Tensor
    dropped: tuple[int, ...]


def log_max(tensor: Tensor, axes: list[int]) -> Tensor:
    """Return the maximum over some axes; in place of summation, for the most probable values."""
    return tensor.amax(axes)


def sum_out(
    component: list[Factor],
    local: list[int],
    variables: Mapping[int, Variable],
    reduce: Reduce,
    steps: list[Any],
) -> Factor:
    """Combine factors and sum variables out, elementwise over all plates; appends the steps taken."""
    scale = _common_scale([variables[v] for v in local])
    live = dict(enumerate(_rescaled(factor, scale) for factor in component))
    uses = Counter(v for factor in live.values() for v in factor.variables)
    to_sum = frozenset(local)
    result = next(iter(live.values()))
    for position, picked in enumerate(_path(component, to_sum)):
        operands = [live.pop(each) for each in picked]
        for operand in operands:
            uses.subtract(operand.variables)
        dims = joined_dims(operands)
        _refuse_large(dims, operands, variables)
        tensor = functools.reduce(lambda a, b: a + b, (align(each, dims) for each in operands))
        dropped = tuple(v for v in dims if isinstance(v, int) and v in to_sum and not uses[v])
        if dropped:
            steps.append(Step(dims, tensor, dropped))
            tensor = reduce(tensor, [dims.index(v) for v in dropped])
            dims = tuple(dim for dim in dims if dim not in dropped)
        result = Factor(dims, tensor, operands[0].plates, scale)
        uses.update(result.variables)
        live[len(component) + position] = result
    return result


def _refuse_large(dims: tuple[Dim, ...], operands: list[Factor], variables: Mapping[int, Variable]) -> None:
    """Refuse a table that would hardly fit in memory."""
    sizes: dict[Dim, int] = {}
    for each in operands:
        sizes.update(zip(each.dims, each.tensor.shape, strict=True))
    elements = math.prod(sizes[dim] for dim in dims)
    if elements <= LARGEST_TABLE:
        return
    names = {dim: f"'{variables[dim].name}'" if dim in variables else f"plate '{dim}'" for dim in dims}  # type: ignore[index]
    first = next((variables[dim].name for dim in dims if isinstance(dim, int) and dim in variables), None)
    raise ValueError(
        message(
            f"enumerated sites depend on each other so much that a table of {elements:,} numbers is needed",
            site=first,
            expected=f"tables of no more than {LARGEST_TABLE:,} numbers",
            actual=f"sizes {', '.join(f'{names[dim]}: {sizes[dim]}' for dim in dims)}",
            fix="let sites depend on fewer others at a time (markov with a shorter history), or sample some "
            "of them in the guide",
        )
    )


def _path(component: list[Factor], to_sum: frozenset[int]) -> tuple[tuple[int, ...], ...]:
    """Return the contraction path; dims are numbered by appearance, so that graphs of one form share it."""
    sizes: dict[Dim, int] = {}
    for factor in component:
        sizes.update(zip(factor.dims, factor.tensor.shape, strict=True))
    number = {dim: position for position, dim in enumerate(sizes)}
    inputs = tuple(tuple(number[dim] for dim in factor.dims) for factor in component)
    return contraction_path(inputs, frozenset(number[v] for v in to_sum), tuple(sizes.values()))


@functools.lru_cache(maxsize=1024)
def contraction_path(
    inputs: tuple[tuple[int, ...], ...], summed: frozenset[int], sizes: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """Return which factors to combine in which order; results get the numbers after those of the inputs.

    :param inputs: dims of each factor, as numbers.
    :param summed: those to sum out.
    :param sizes: sizes of the dims, by number.
    """
    if len(inputs) == 1:
        return ((0,),)
    from opt_einsum.paths import ssa_greedy_optimize

    output = frozenset(dim for dims in inputs for dim in dims) - summed
    path = ssa_greedy_optimize([frozenset(dims) for dims in inputs], output, dict(enumerate(sizes)))
    return tuple(tuple(each) for each in path)


def _rescaled(factor: Factor, scale: Any) -> Factor:
    if factor.scale is scale or (_is_number(factor.scale, scale) and factor.scale == scale):
        return factor
    return factor._replace(tensor=factor.tensor * (factor.scale / scale), scale=scale)


def _common_scale(local: list[Variable]) -> Any:
    first = local[0]
    for each in local[1:]:
        same = each.scale is first.scale or (
            _is_number(each.scale, first.scale) and each.scale == first.scale
        )
        if not same:
            raise ValueError(
                message(
                    f"enumerated sites '{first.name}' and '{each.name}' depend on each other but have "
                    "different scales",
                    site=each.name,
                    expected=f"one scale for both, as for '{first.name}': {first.scale}",
                    actual=f"{each.scale}",
                    fix="put both under the same poutine.scale and the same subsampled plates",
                )
            )
    return first.scale


def _is_number(*scales: Any) -> bool:
    return all(isinstance(scale, (int, float)) for scale in scales)
