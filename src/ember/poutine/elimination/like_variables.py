"""Sum many variables out at once where a factor graph repeats itself, as in long chains.

Variables that share no factor, and whose factors are of the same forms, are summed out by one operation on
stacked factors. In a chain every second variable is such a one; what is left is a chain of half the length,
and so on: depth and number of operations grow with the logarithm of the length, as in a parallel reduction.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ember.poutine.elimination.factors import Variable
from ember.poutine.elimination.rows import Rows, gathered, joined, scale_key

_FEWEST = 3  # like variables; fewer are summed out one by one
_LARGEST = 2**24  # elements of one table

Reduce = Callable[[Tensor, list[int]], Tensor]


class StackedStep(NamedTuple):
    """One summation of many variables: ``tensor`` is over ``others``, ``dropped``, plates and, last, rows."""

    tensor: Tensor
    plate_names: tuple[str, ...]
    others: tuple[tuple[int, ...], ...]  # of each row: the variables that stay
    dropped: tuple[int, ...]  # of each row: the variable that is summed out


class Form(NamedTuple):
    """What rows in one tensor have in common: a number for scale, plates, dtype; the sizes of variables."""

    kind: int
    sizes: tuple[int, ...]


Graph = dict[Form, tuple[tuple[int, ...], ...]]  # the variables of each row, by form


class Part(NamedTuple):
    """Rows that enter a round, and the axis in its table for each of their variables."""

    form: Form
    positions: tuple[int, ...]
    axes: tuple[int, ...]


class Round(NamedTuple):
    """Variables that are summed out together."""

    dropped: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]  # of each
    parts: tuple[Part, ...]
    kept: tuple[tuple[Form, tuple[int, ...]], ...]  # rows that remain of the forms touched
    result: Form


def sum_alike(
    factors: Sequence[Any],
    local: Collection[int],
    variables: Mapping[int, Variable],
    reduce: Reduce,
    steps: list[Any],
) -> list[Rows]:
    """Sum out those of the ``local`` variables that are many of a kind; returns the factors then left.

    :param factors: all over the same plates.
    :param variables: by id.
    :param steps: the steps taken are appended.
    """
    numbers: dict[int, int] = {}
    kinds: dict[Any, int] = {}
    scales: list[Any] = []
    live: dict[Form, Rows] = {}
    repeats = 1
    for rows in gathered(factors):
        shape, names, scale, dtype = rows.form
        plate_sizes = shape[len(shape) - len(names) :]
        repeats = max(repeats, math.prod(plate_sizes))
        kind = kinds.setdefault((plate_sizes, names, scale, dtype), len(kinds))
        if kind == len(scales):
            scales.append(scale)
        live[Form(kind, rows.sizes)] = rows
    graph = tuple(
        (form, tuple(tuple(numbers.setdefault(v, len(numbers)) for v in each) for each in rows.variables))
        for form, rows in live.items()
    )
    scale_of = {numbers[v]: scale_key(variables[v].scale) for v in local}
    kind_of = frozenset(
        (number, scales.index(scale)) for number, scale in scale_of.items() if scale in scales
    )
    if any(len({scale_of[v] for v in row if v in scale_of}) > 1 for _, rows in graph for row in rows):
        return list(live.values())  # which summing them one by one refuses, by name
    identities = list(numbers)
    for each in plan(graph, kind_of, repeats):
        _run(each, live, identities, reduce, steps)
    return list(live.values())


def _run(
    each: Round, live: dict[Form, Rows], identities: list[int], reduce: Reduce, steps: list[Any]
) -> None:
    """Take one round: change the factors that are left, and append the step."""
    some = live[each.parts[0].form]
    width = len(each.others[0]) + 1
    operands = []
    for part in each.parts:
        tensor = live[part.form].numbers(part.positions)
        order = sorted(range(len(part.axes)), key=part.axes.__getitem__)
        if order != list(range(len(order))):
            tensor = tensor.permute(*order, *range(len(order), tensor.ndim))
        sizes = iter(tensor.shape)
        shape = [next(sizes) if axis in part.axes else 1 for axis in range(width)]
        operands.append(tensor.reshape((*shape, *sizes)))
    table = functools.reduce(lambda a, b: a + b, operands)
    others = tuple(tuple(identities[v] for v in row) for row in each.others)
    steps.append(StackedStep(table, some.plate_names, others, tuple(identities[v] for v in each.dropped)))
    result = Rows(reduce(table, [width - 1]), others, some.plate_names, some.scale)
    for form, positions in each.kept:
        if positions:
            live[form] = live[form].take(positions)
        else:
            del live[form]
    known = live.get(each.result)
    live[each.result] = result if known is None else joined([result, known])


@functools.lru_cache(maxsize=256)
def plan(
    graph: tuple[tuple[Form, tuple[tuple[int, ...], ...]], ...],
    kind_of: frozenset[tuple[int, int]],
    repeats: int,
) -> tuple[Round, ...]:
    """Return the rounds in which the variables are summed out that come in large classes.

    :param graph: forms with the variables of their rows, numbered from 0.
    :param kind_of: the variables that may be summed out, each with the kind that all its factors must have.
    :param repeats: number of elements of the plates.
    """
    left = dict(graph)
    kinds = dict(kind_of)
    rounds: list[Round] = []
    while True:
        found = _next_round(left, kinds, repeats)
        if found is None:
            return tuple(rounds)
        rounds.append(found)
        for variable in found.dropped:
            del kinds[variable]
        for form, positions in found.kept:
            rows = tuple(left[form][position] for position in positions)
            if rows:
                left[form] = rows
            else:
                del left[form]
        # In the order in which `joined` leaves the rows.
        left[found.result] = tuple(dict.fromkeys((*found.others, *left.get(found.result, ()))))


class _Place(NamedTuple):
    """Where a variable stands: in a row of a form."""

    form: Form
    position: int


def _next_round(graph: Graph, kinds: dict[int, int], repeats: int) -> Round | None:
    """Choose the cheapest large class of variables of one kind that share no factor."""
    places: dict[int, list[_Place]] = {variable: [] for variable in kinds}
    sizes: dict[int, int] = {}
    for form, rows in graph.items():
        for position, row in enumerate(rows):
            sizes.update(zip(row, form.sizes, strict=True))
            for variable in row:
                if variable in places:
                    places[variable].append(_Place(form, position))
    classes: dict[Any, list[tuple[int, tuple[int, ...], list[_Place]]]] = {}
    for variable, where in places.items():
        if not where or any(place.form.kind != kinds[variable] for place in where):
            continue
        neighbours = sorted({v for form, position in where for v in graph[form][position]} - {variable})
        axis = {v: number for number, v in enumerate((*neighbours, variable))}
        described = sorted(
            ((place.form, tuple(axis[v] for v in graph[place.form][place.position])), place)
            for place in where
        )
        key = tuple(described_form for described_form, _ in described)
        members = classes.setdefault((tuple(sizes[v] for v in axis), key), [])
        members.append((variable, tuple(neighbours), [place for _, place in described]))
    for (table, key), members in sorted(classes.items(), key=lambda item: math.prod(item[0][0])):
        chosen = _independent(members)
        if len(chosen) >= _FEWEST and len(chosen) * math.prod(table) * repeats <= _LARGEST:
            return _round_of(graph, kinds[chosen[0][0]], table, key, chosen)
    return None


def _independent(members: list[Any]) -> list[Any]:
    """Choose variables of which none is another's neighbour, the first ones first."""
    chosen, blocked = [], set()
    for member in sorted(members):
        variable, neighbours, _ = member
        if variable not in blocked:
            chosen.append(member)
            blocked.update(neighbours)
    return chosen


def _round_of(graph: Graph, kind: int, table: tuple[int, ...], key: Any, chosen: list[Any]) -> Round:
    parts = tuple(
        Part(form, tuple(places[number].position for _, _, places in chosen), axes)
        for number, (form, axes) in enumerate(key)
    )
    used: dict[Form, set[int]] = {}
    for part in parts:
        used.setdefault(part.form, set()).update(part.positions)
    kept = tuple(
        (form, tuple(position for position in range(len(graph[form])) if position not in positions))
        for form, positions in used.items()
    )
    return Round(
        tuple(variable for variable, _, _ in chosen),
        tuple(neighbours for _, neighbours, _ in chosen),
        parts,
        kept,
        Form(kind, table[:-1]),
    )
