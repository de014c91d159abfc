"""Sum variables out of a plated factor graph, in log space and exactly."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ember.errors import message
from ember.poutine.factors import Dim, Factor, Plates, Variable, align, joined_dims, log_sum_exp

Reduce = Callable[[Tensor, list[int]], Tensor]


class Step(NamedTuple):
    """One summation: a tensor over ``dims`` from which the variables ``dropped`` are summed out."""

    dims: tuple[Dim, ...]
    tensor: Tensor
    dropped: tuple[int, ...]


def log_max(tensor: Tensor, axes: list[int]) -> Tensor:
    """Return the maximum over some axes; in place of summation, for the most probable values."""
    return tensor.amax(axes)


def eliminate(
    factors: Iterable[Factor],
    variables: Mapping[int, Variable],
    kept: Mapping[int, Plates] | None = None,
    reduce: Reduce = log_sum_exp,
) -> tuple[list[Factor], list[Step]]:
    """Sum out variables; the log density is the sum over what is left, each with its scale, over its plates.

    Tensor variable elimination (Obermeyer et al. 2019): the variables of the innermost plates are summed out,
    component by component; what depends on variables further out is multiplied over the plates that those
    are not in, and so on outwards. A variable's sum counts as often as its site's scale says; a factor of
    another scale enters it as a power, as the minibatch of an inner plate must.

    :param factors: log factors.
    :param variables: those to sum out, by id.
    :param kept: plates of variables that stay, by id.
    :param reduce: ``log_sum_exp``, or ``log_max``.
    :returns: the factors that are left, without variables to sum, and the steps taken.
    :raises ValueError: if the plates do not nest so that this can be done, or scales differ within a sum.
    """
    left: list[Factor] = []
    steps: list[Step] = []
    waiting: dict[Plates, list[Factor]] = {}
    for factor in factors:
        _sort_in(factor, variables, waiting, left)
    while waiting:
        leaf = max(waiting, key=lambda plates: (len(plates), sorted(plates)))
        for component in _components(waiting.pop(leaf), variables, leaf):
            local = sorted({v for f in component for v in f.variables if _is_local(v, variables, leaf)})
            if local:
                result = sum_out(component, local, variables, reduce, steps)._replace(plates=leaf)
            else:
                (result,) = component
            outer = [variables[v] for v in result.variables if v in variables]
            if not outer:
                left.append(result)
                continue
            parent: Plates = frozenset().union(*(each.plates for each in outer))
            if parent == leaf or not parent < leaf:
                _refuse_plates(leaf, outer)
            waiting.setdefault(parent, []).append(_product(result, leaf - parent, parent, kept or {}))
    return left, steps


def total(factors: Iterable[Factor]) -> Any:
    """Return the sum of log factors over all their elements, scaled: a scalar tensor, or 0.0 if none."""
    result: Any = None
    for factor in factors:
        part = factor.tensor.sum() if factor.tensor.ndim else factor.tensor
        part = part if _is_one(factor.scale) else part * factor.scale
        result = part if result is None else result + part
    return 0.0 if result is None else result


def _sort_in(
    factor: Factor,
    variables: Mapping[int, Variable],
    waiting: dict[Plates, list[Factor]],
    left: list[Factor],
) -> None:
    if any(v in variables for v in factor.variables):
        waiting.setdefault(factor.plates, []).append(factor)
    else:
        left.append(factor)


def _is_local(variable: int, variables: Mapping[int, Variable], leaf: Plates) -> bool:
    return variable in variables and variables[variable].plates == leaf


def _components(factors: list[Factor], variables: Mapping[int, Variable], leaf: Plates) -> list[list[Factor]]:
    """Group factors that share variables local to ``leaf``."""
    owner: dict[int, int] = {}
    parent = list(range(len(factors)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index, factor in enumerate(factors):
        for variable in factor.variables:
            if _is_local(variable, variables, leaf):
                parent[root(index)] = root(owner.setdefault(variable, index))
    groups: dict[int, list[Factor]] = {}
    for index, factor in enumerate(factors):
        groups.setdefault(root(index), []).append(factor)
    return list(groups.values())


def sum_out(
    component: list[Factor],
    local: list[int],
    variables: Mapping[int, Variable],
    reduce: Reduce,
    steps: list[Step],
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


def _is_one(scale: Any) -> bool:
    return _is_number(scale) and scale == 1


def _product(factor: Factor, plates: Plates, parent: Plates, kept: Mapping[int, Plates]) -> Factor:
    """Multiply a factor over plates."""
    inner = [v for v in factor.variables if v in kept and kept[v] & plates]
    if inner:
        raise ValueError(
            message(
                "the model enumerates a site more globally than the guide does",
                expected="enumerated sites of the model inside the plates of the guide's enumerated sites "
                "that they depend on",
                actual=f"a guide site in plates {', '.join(sorted(kept[inner[0]]))}, a model site outside",
                fix="enumerate both in the guide, or sample the guide's site",
            )
        )
    axes = [factor.dims.index(plate) for plate in plates]
    dims = tuple(dim for dim in factor.dims if dim not in plates)
    return Factor(dims, factor.tensor.sum(axes), parent, factor.scale)


def _refuse_plates(leaf: Plates, outer: list[Variable]) -> None:
    listed = "; ".join(f"'{v.name}' in plates {{{', '.join(sorted(v.plates))}}}" for v in outer)
    raise ValueError(
        message(
            "enumerated sites of different plates meet, so that they cannot be summed out plate by plate",
            site=outer[0].name,
            expected="plates in which each product of factors depends on variables further out only",
            actual=f"factors in plates {{{', '.join(sorted(leaf))}}} that depend on {listed}",
            fix="make one of the plates sequential, or sample one of the sites in the guide",
        )
    )
