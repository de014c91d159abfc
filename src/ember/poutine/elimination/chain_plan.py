"""Find the steps that a long chain repeats: which factors each brings, and which variables go on to the next.

Taken in the order in which they were enumerated, the variables of a chain bring the same factors again and
again, those that join a variable to earlier ones. Summing the variables out in that order takes the same step
each time, as the forward algorithm does (Rabiner 1989, equations 19-21): what goes on from step to step is a
table over the last variables that later factors depend on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_REACH = 16  # how far back a factor may look; variables further back are held from the first step to the last
_LONGEST_PERIOD = 16
_FEWEST_STEPS = 8
_MOST_CHAINS = 6  # each with at least this part of the variables; of more, like variables are summed together
_LARGEST_START = 24  # variables to sum out before the first step
_HELD = 1 << 40  # added to the number of a variable that is held

Rows = Sequence[tuple[int, ...]]  # variables of each row of one form


class Slot(NamedTuple):
    """A factor that each step brings."""

    form: int
    labels: tuple[int, ...]  # of its axes
    positions: tuple[int, ...]  # its row, step by step


class Chain(NamedTuple):
    """Steps that are alike. Variables have labels: places from the step's first variable, or held ones."""

    slots: tuple[Slot, ...]
    period: int  # variables of a step
    before: tuple[int, ...]  # labels of the variables that come from the step before
    held: tuple[int, ...]  # labels of those that are in all steps
    first: tuple[int, ...]  # the variables before the first step
    last: tuple[int, ...]  # those left after the last step
    start: tuple[tuple[int, int], ...]  # form and position of the factors before the first step
    early: tuple[int, ...]  # variables to sum out of these
    ends: bool  # whether no other factor depends on the last variables

    @property
    def length(self) -> int:
        """Number of steps."""
        return len(self.slots[0].positions)


class _Factor(NamedTuple):
    """A row, as seen from its last variable."""

    form: int
    labels: tuple[int, ...]
    position: int


def held_variable(label: int) -> int:
    """Return the variable that a label of a held one stands for."""
    return label - _HELD


def find_chain(graph: Sequence[Rows], order: Sequence[int], total: int) -> Chain | None:
    """Return the longest chain, if a good part of the variables are in it.

    :param graph: variables of each row, by form; all of one scale.
    :param order: the variables to sum out, in the order of the chain.
    :param total: number of variables with those of chains that were found before.
    """
    place = {variable: number for number, variable in enumerate(order)}
    brought = _brought(graph, place)
    signatures = [tuple((form, labels) for form, labels, _ in factors) for factors in brought]
    begin, period, length = _longest_run(signatures)
    if length < _FEWEST_STEPS or _MOST_CHAINS * length * period < total:
        return None
    end = begin + length * period
    slots = _slots(brought[begin:end], period)
    labels = {label for slot in slots for label in slot.labels}
    # What a later step looks back to has to pass through the steps between.
    before = sorted({late for label in labels if label < 0 for late in range(label, 0, period)})
    held = sorted(label for label in labels if label >= _HELD)
    if not before:
        return None
    first = tuple(order[begin + label] for label in before)
    last = tuple(order[end + label] for label in before)
    constant = {held_variable(label) for label in held}
    start, early = _start(brought[:begin], first, constant, place, graph)
    used = {(slot.form, position) for slot in slots for position in slot.positions}.union(start)
    elsewhere = {
        variable
        for form, rows in enumerate(graph)
        for position, row in enumerate(rows)
        if (form, position) not in used
        for variable in row
    }
    inside = {*early, *first, *order[begin:end]}.difference(last)
    if len(early) > _LARGEST_START or inside & (elsewhere | constant):
        return None
    ends = not elsewhere.intersection(last) and not constant.intersection(last)
    return Chain(
        slots, period, tuple(before), tuple(held), first, last, tuple(start), tuple(sorted(early)), ends
    )


def _brought(graph: Sequence[Rows], place: Mapping[int, int]) -> list[list[_Factor]]:
    """Return the factors that each variable joins to earlier ones."""
    lasts = [[max((place[v] for v in row if v in place), default=None) for row in rows] for rows in graph]
    far = {
        variable
        for rows, of_rows in zip(graph, lasts, strict=True)
        for row, last in zip(rows, of_rows, strict=True)
        for variable in row
        if last is not None and variable in place and last - place[variable] > _REACH
    }
    found: list[list[_Factor]] = [[] for _ in place]
    for form, (rows, of_rows) in enumerate(zip(graph, lasts, strict=True)):
        for position, (row, last) in enumerate(zip(rows, of_rows, strict=True)):
            if last is not None:
                labels = tuple(place[v] - last if v in place and v not in far else _HELD + v for v in row)
                found[last].append(_Factor(form, labels, position))
    for factors in found:
        factors.sort()
    return found


def _longest_run(signatures: Sequence[object]) -> tuple[int, int, int]:
    """Return the begin, the period and the number of periods of the longest periodic part."""
    best = (0, 1, 0)
    for period in range(1, _LONGEST_PERIOD + 1):
        begin = 0
        for end in range(period, len(signatures) + 1):
            if end < len(signatures) and signatures[end] == signatures[end - period]:
                continue
            length = (end - begin) // period
            if length > 1 and length * period > best[1] * best[2]:
                best = end - length * period, period, length  # rather begin later than end early
            begin = end - period + 1
    return best


def _slots(brought: Sequence[Sequence[_Factor]], period: int) -> tuple[Slot, ...]:
    slots = []
    for within in range(period):
        steps = brought[within::period]
        for number, factor in enumerate(steps[0]):
            labels = tuple(label if label >= _HELD else label + within for label in factor.labels)
            slots.append(Slot(factor.form, labels, tuple(step[number].position for step in steps)))
    return tuple(slots)


def _start(
    brought: Sequence[Sequence[_Factor]],
    first: Sequence[int],
    held: set[int],
    place: Mapping[int, int],
    graph: Sequence[Rows],
) -> tuple[list[tuple[int, int]], set[int]]:
    """Return the earlier factors on which the first variables depend, and the variables to sum out there."""
    rest = [(factor.form, factor.position) for factors in brought for factor in factors]
    reached = set(first)
    taken: list[tuple[int, int]] = []
    while True:
        touched = [bool(reached.intersection(graph[form][position])) for form, position in rest]
        now = list(itertools.compress(rest, touched))
        if not now:
            return taken, reached.difference(first)
        taken += now
        rest = [each for each, is_now in zip(rest, touched, strict=True) if not is_now]
        found = {v for form, position in now for v in graph[form][position] if v in place}
        reached |= found - held
