"""Sum products of plated tensors, keeping some dims; in any ring, and exactly."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ember.errors import message
from ember.ops.rings import Ring
from ember.poutine.elimination.contraction import contraction_path
from ember.poutine.elimination.factors import Factor, Plates, align, joined_dims


class _Part(NamedTuple):
    """A product over some slices, twice: of the slices that are kept apart, and of the others."""

    own: Factor
    others: Factor  # with the kept variables summed out, too


def plated_sum(
    factors: Iterable[Factor],
    plates_of: Mapping[int, Plates],
    kept: Collection[int],
    kept_plates: Plates,
    ring: Ring,
    modulo_total: bool = False,
    partly: bool = False,
) -> list[Factor]:
    """Sum out all variables but those ``kept``, from the innermost plates outwards.

    A variable of a plate stands for another one in each slice. So in the result, each slice of the plates
    that are kept holds the sum over the variables of all other slices, too.

    :param factors: of scale 1.
    :param plates_of: plates of each variable.
    :param kept: variables of the result, in no plates but ``kept_plates``.
    :param modulo_total: whether results may lack factors that are the same for all values of what is kept.
    :param partly: whether to leave what depends on no variables in its plates.
    :returns: factors whose product (over their plates, if ``partly``) is the result.
    :raises NotImplementedError: if plates do not nest so that this can be done in polynomial time.
    """
    waiting: dict[Plates, list[_Part]] = {}
    done: list[Factor] = []
    for factor in factors:
        waiting.setdefault(factor.plates, []).append(_Part(factor, factor))
    while waiting:
        leaf = max(waiting, key=lambda plates: (len(plates), sorted(plates)))
        parts = waiting.pop(leaf)
        local = {v for part in parts for v in part.others.variables if plates_of[v] == leaf}
        for component in components(parts, local):
            summed = {v for part in component for v in part.others.variables & local}
            own = contract_factors([part.own for part in component], summed - set(kept), ring)
            others = contract_factors([part.others for part in component], summed, ring)
            outer = others.variables
            if not leaf or (partly and not outer):
                done.append(own)
                continue
            parent: Plates = frozenset().union(*(plates_of[v] for v in outer))
            if not parent < leaf:
                _refuse_plates(leaf, outer, plates_of)
            waiting.setdefault(parent, []).append(
                _outwards(own, others, leaf - parent, kept_plates, ring, modulo_total and not outer)
            )
    return done


def components(parts: Sequence[_Part], local: set[int]) -> list[list[_Part]]:
    """Group parts that share local variables."""
    groups: list[tuple[set[int], list[_Part]]] = []
    for part in parts:
        variables, members = set(part.others.variables & local), [part]
        apart = []
        for group in groups:
            if group[0] & variables:
                variables |= group[0]
                members = group[1] + members
            else:
                apart.append(group)
        groups = [*apart, (variables, members)]
    return [members for _, members in groups]


def contract_factors(factors: Sequence[Factor], summed: Collection[int], ring: Ring) -> Factor:
    """Multiply factors and sum variables out, in a good order; elementwise over all plates."""
    dims = joined_dims(factors)
    number = {dim: position for position, dim in enumerate(dims)}
    sizes = {number[dim]: size for f in factors for dim, size in zip(f.dims, f.tensor.shape, strict=True)}
    path = contraction_path(
        tuple(tuple(number[dim] for dim in factor.dims) for factor in factors),
        frozenset(number[v] for v in summed if v in number),
        tuple(sizes[position] for position in range(len(dims))),
    )
    live = dict(enumerate(factors))
    result = factors[0]
    for position, picked in enumerate(path):
        operands = [live.pop(each) for each in picked]
        dims = joined_dims(operands)
        tensor = ring.multiply([align(each, dims) for each in operands])
        needed = frozenset().union(*(each.variables for each in live.values()))
        dropped = [v for v in dims if isinstance(v, int) and v in summed and v not in needed]
        tensor = ring.sum(tensor, [dims.index(v) for v in dropped])
        result = Factor(tuple(dim for dim in dims if dim not in dropped), tensor, operands[0].plates)
        live[len(factors) + position] = result
    return result


def _outwards(
    own: Factor, others: Factor, plates: Plates, kept_plates: Plates, ring: Ring, modulo_total: bool
) -> _Part:
    """Multiply slices along plates: all of them, or, along kept ones, the others beside each."""
    apart = sorted(plates & kept_plates)
    own, others = (_product(each, plates - kept_plates, ring) for each in (own, others))
    if apart and not modulo_total:
        axes = [others.dims.index(plate) for plate in apart]
        beside = others._replace(tensor=ring.exclusive_product(others.tensor, axes))
        own = contract_factors([own, beside], (), ring)
    others = _product(others, plates & kept_plates, ring)
    return _Part(own._replace(plates=others.plates), others)


def _product(factor: Factor, plates: Plates, ring: Ring) -> Factor:
    axes = [factor.dims.index(plate) for plate in plates if plate in factor.dims]
    dims = tuple(dim for dim in factor.dims if dim not in plates)
    return Factor(dims, ring.product(factor.tensor, axes), factor.plates - plates)


def _refuse_plates(leaf: Plates, outer: Collection[int], plates_of: Mapping[int, Plates]) -> None:
    listed = "; ".join(f"'{chr(v)}' in plates {{{', '.join(sorted(plates_of[v]))}}}" for v in sorted(outer))
    raise NotImplementedError(
        message(
            "dims of different plates meet, so that they cannot be summed out plate by plate",
            expected="tree-structured plates: products that depend on dims further out only",
            actual=f"a product in plates {{{', '.join(sorted(leaf))}}} that depends on {listed}",
            fix="make one of the plates sequential (mind the cost, exponential in its size)",
        )
    )
