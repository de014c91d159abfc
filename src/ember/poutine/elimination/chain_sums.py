"""Sum the variables of a long chain out step by step, in loops whose programs do not grow with its length."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ember.poutine.elimination.chain_algebra import (
    Algebra,
    Logarithms,
    Operand,
    Probabilities,
    contract,
    elements,
    stages,
)
from ember.poutine.elimination.chain_plan import Chain, find_chain, held_variable
from ember.poutine.elimination.contraction import sum_out
from ember.poutine.elimination.factors import Dim, Factor, Variable, align, log_sum_exp
from ember.poutine.elimination.rows import Rows, gathered, scale_key, variables_in

_MOST_PIECES = 64
_OF_LOGARITHM = 8  # additions that take as long as an exponential
# Added to the label of a variable where a piece starts, and where it ends.
_START, _END = 1 << 20, 1 << 21


class Loops(NamedTuple):
    """Control flow for long chains: ``scan`` and ``cond`` as the engine has them."""

    scan: Callable[..., Any]
    cond: Callable[..., Any]
    step_cost: Callable[[], int]
    """Says how many additions take as long as a step of no work."""


def sum_chains(
    factors: Collection[Factor | Rows],
    local: Collection[int],
    variables: Mapping[int, Variable],
    loops: Loops,
) -> list[Factor | Rows]:
    """Sum out the variables of a few long chains, where there are such and steps cost less than other ways.

    In a step, the table over what later factors depend on is multiplied by the step's factors, and what no
    later one depends on is summed out. The table holds probabilities, scaled anew in each step; where these
    could underflow, sums of exponentials of logarithms are taken instead, which are exact everywhere.

    A long chain of few states is cut into pieces of equal length, all of which are gone through side by side,
    from each state in which they may start; what they lead to is then put together.

    :param factors: all over the same plates.
    :param local: the variables to sum out.
    :returns: the factors that are then left.
    """
    waiting, done = list(factors), list[Factor | Rows]()
    inside = set(local)
    while inside:
        found = _sum_chain(waiting, inside, variables, loops, len(local))
        if found is None:
            break
        named = [variables_in(each) for each in found]
        inside &= set().union(*named)
        waiting = [each for each, its in zip(found, named, strict=True) if its & inside]
        done += [each for each, its in zip(found, named, strict=True) if not its & inside]
    return [*waiting, *done]


def _sum_chain(
    factors: Collection[Factor | Rows],
    local: Collection[int],
    variables: Mapping[int, Variable],
    loops: Loops,
    total: int,
) -> list[Factor | Rows] | None:
    """Sum out the variables of the longest chain, if there is one; of ``total`` variables at first."""
    # Like sites are together already; what alternates stays apart, so that what is shared is seen to be.
    single = [each for each in factors if isinstance(each, Factor)]
    rows = [*(each for each in factors if isinstance(each, Rows)), *gathered(single)]
    ordered = sorted(local)
    scales = {scale_key(variables[v].scale) for v in ordered}
    kinds = {(scale_key(each.scale), each.tensor.dtype, each.plate_names, each.plate_sizes) for each in rows}
    if len(kinds) > 1 or scales != {scale_key(rows[0].scale)} or not rows[0].tensor.is_floating_point():
        return None
    chain = find_chain([each.variables for each in rows], ordered, total)
    if chain is None:
        return None
    found = _Sum(chain, rows, variables, loops)
    if found.cost > found.cost_of_tree:
        return None
    return [*found.rest(), found.result()]


class _Sum:
    """One chain with its numbers, and how it is cut."""

    def __init__(
        self, chain: Chain, rows: Sequence[Rows], variables: Mapping[int, Variable], loops: Loops
    ) -> None:
        self.chain, self.rows, self.variables, self.loops = chain, rows, variables, loops
        self.sizes = {
            label: size
            for slot in chain.slots
            for label, size in zip(slot.labels, rows[slot.form].sizes, strict=True)
        }
        self.sizes |= {label: self.sizes[label % chain.period] for label in chain.before}
        self.plates = rows[0].plate_sizes
        self.states = math.prod(self.sizes[label] for label in chain.before)
        self.pieces, self.cost = self._cut()
        for label in chain.before:
            self.sizes[_START + label] = self.sizes[_END + label] = self.sizes[label]

    def _cut(self) -> tuple[int, float]:
        """Return the number of pieces that costs the least, and the cost."""
        empty, length = self.loops.step_cost(), self.chain.length
        chain = self.chain
        carried = (*chain.before, *chain.held)
        kept = [label + chain.period for label in chain.before] + list(chain.held)
        taken = stages(carried, [slot.labels for slot in chain.slots], kept, self.sizes)
        work = sum(elements(each.labels, self.sizes) for each in taken) * math.prod(self.plates)

        def cost(pieces: int) -> float:
            steps, rest = divmod(length, pieces)
            if pieces == 1:
                return length * (empty + work)
            joins = pieces * (empty + self.states**2 * math.prod(self.plates))
            return steps * (empty + self.states * work * pieces) + joins + rest * (empty + work)

        candidates = range(1, min(_MOST_PIECES, length // 4) + 1)
        best = min(candidates, key=cost)
        return best, cost(best)

    @property
    def cost_of_tree(self) -> float:
        """Cost of summing every second variable out, and so on."""
        variables = self.chain.length * self.chain.period
        work = variables * self.states**3 * math.prod(self.plates)
        return _OF_LOGARITHM * work + 4 * math.log2(self.chain.length) * self.loops.step_cost()

    # -- what is left --------------------------------------------------------------------------------------

    def rest(self) -> list[Rows]:
        """Return the factors that are not in the chain."""
        used: list[set[int]] = [set() for _ in self.rows]
        for slot in self.chain.slots:
            used[slot.form].update(slot.positions)
        for form, position in self.chain.start:
            used[form].add(position)
        kept = [
            [position for position in range(len(rows.variables)) if position not in taken]
            for rows, taken in zip(self.rows, used, strict=True)
        ]
        return [rows.take(positions) for rows, positions in zip(self.rows, kept, strict=True) if positions]

    def result(self) -> Factor:
        """Return the factor over the last variables and those held."""
        start = self._start()
        factors = [
            Operand(slot.labels, self.rows[slot.form].numbers(slot.positions)) for slot in self.chain.slots
        ]
        # Rows of the tables of whole pieces sum to at most the number of states.
        count = math.log(self.chain.length * elements(self.sizes, self.sizes))
        fast = Probabilities(start.tensor.dtype, count + self.pieces * math.log(self.states))
        guess = self._attempt(start, factors, fast, self.pieces)
        tensor = self.loops.cond(
            fast.is_safe() & (guess < math.inf).all(),
            lambda: guess,
            lambda: self._attempt(start, factors, Logarithms(), 1),
        )
        some = self.rows[0]
        last = () if self.chain.ends else self.chain.last
        dims: tuple[Dim, ...] = (*last, *map(held_variable, self.chain.held), *some.plate_names)
        return Factor(dims, tensor.squeeze(-1), some.plates, some.scale)

    def _start(self) -> Operand:
        """Return the factor over the variables before the first step."""
        some, chain = self.rows[0], self.chain
        dims: tuple[Dim, ...] = (*chain.first, *map(held_variable, chain.held), *some.plate_names)
        factors = [self.rows[form].row(position) for form, position in chain.start]
        if chain.early:
            factor = sum_out(factors, list(chain.early), self.variables, log_sum_exp, [])
            tensor = align(factor, dims)
        else:
            tensor = sum((align(each, dims) for each in factors), start=some.tensor.new_zeros(()))
        labels = (*chain.before, *chain.held)
        shape = (*(self.sizes[label] for label in labels), *self.plates)
        return Operand(labels, tensor.expand(shape).unsqueeze(-1))

    # -- the steps -----------------------------------------------------------------------------------------

    def _attempt(self, start: Operand, factors: Sequence[Operand], by: Algebra, pieces: int) -> Tensor:
        """Return the result's logarithms, with a last axis of size 1."""
        chain, states = self.chain, len(self.chain.before)
        table, scale = by.enter(start.tensor, states)
        carried, scales = Operand(start.labels, table), [scale]
        entered = []
        for number, factor in enumerate(factors):
            count = len(factor.labels)
            table, scale = by.enter(factor.tensor, count, self._own_axes(number))
            entered.append(Operand(factor.labels, table))
            if scale is not None:
                scale = scale.reshape(scale.shape[count:])
                scales.append(scale * chain.length if _is_shared(factor) else scale.sum(-1, keepdim=True))
        done = 0
        if pieces > 1:
            done = chain.length - chain.length % pieces
            joined, scale = self._pieces(entered, done, by)
            scales.append(scale)
            carried, scale = self._run(carried, [joined], pieces, 1, by, _END)
            scales.append(scale)
        if done < chain.length:
            rest = [each if _is_shared(each) else _part(each, done, chain.length) for each in entered]
            carried, scale = self._run(carried, rest, chain.length - done, 1, by, chain.period)
            scales.append(scale)
        # Of the scales, those of the carried table have the axes of its states, of size 1.
        found = by.leave(carried.tensor, list(range(states)), chain.ends)
        for scale in scales:
            if scale is not None:
                summed = chain.ends and scale.ndim == carried.tensor.ndim
                found = found + (scale.reshape(scale.shape[states:]) if summed else scale)
        return found

    def _own_axes(self, number: int) -> list[int]:
        """Return the axis of a factor over a new variable, whose distribution given the others it may be.

        Of the factors of which a variable is the newest, it is the first with most variables.
        """
        slots = self.chain.slots
        new = [max(label for label in slot.labels if label < self.chain.period) for slot in slots]
        rivals = [other for other in range(len(slots)) if new[other] == new[number]]
        first = max(rivals, key=lambda other: len(slots[other].labels))
        return [slots[number].labels.index(new[number])] if first == number else []

    def _pieces(self, factors: Sequence[Operand], done: int, by: Algebra) -> tuple[Operand, Any]:
        """Return what each piece leads to from each state where it may start, and the sum of the scales."""
        before, held, tail = self.chain.before, self.chain.held, (1,) * (1 + len(self.plates))
        labels = (*(_START + label for label in before), *before, *held)
        table = functools.reduce(
            by.product,
            (
                Operand((_START + label, label), identity.reshape((*identity.shape, *tail))).over(labels)
                for label in before
                for identity in [by.identity(self.sizes[label], factors[0].tensor)]
            ),
        )
        shape = (*(self.sizes[label] for label in labels), *self.plates, self.pieces)
        parts = [each if _is_shared(each) else _part(each, 0, done) for each in factors]
        carried = Operand(labels, table.expand(shape))
        steps = done // self.pieces
        carried, scale = self._run(carried, parts, steps, self.pieces, by, self.chain.period)
        if scale is not None:
            scale = scale.reshape(scale.shape[len(before) :]).sum(-1, keepdim=True)
        labels = (*before, *(_END + label for label in before), *held)
        return Operand(labels, carried.tensor), scale

    def _run(
        self,
        carried: Operand,
        factors: Sequence[Operand],
        steps: int,
        pieces: int,
        by: Algebra,
        shift: int,
    ) -> tuple[Operand, Any]:
        """Go through some steps, in several pieces side by side; returns the table and its scales.

        :param shift: what a step adds to the labels of the variables that it sums out.
        """
        before, held = self.chain.before, self.chain.held
        following = tuple(label + shift if label in before else label for label in carried.labels)
        axes = [axis for axis, label in enumerate(carried.labels) if label not in held]

        def step(table: Tensor, xs: list[Tensor]) -> tuple[Tensor, Any]:
            own = iter(xs)
            operands = [each if _is_shared(each) else Operand(each.labels, next(own)) for each in factors]
            result = contract(Operand(carried.labels, table), operands, following, self.sizes, by)
            return by.settle(result.over(following), axes)

        sequences = [
            each.tensor.unflatten(-1, (pieces, steps)).movedim(-1, 0)
            for each in factors
            if not _is_shared(each)
        ]
        table, settled = self.loops.scan(step, carried.tensor, sequences, length=steps)
        return Operand(carried.labels, table), by.scales(settled)


def _is_shared(factor: Operand) -> bool:
    """Say whether a factor is the same in all steps."""
    return factor.tensor.shape[-1] == 1


def _part(factor: Operand, begin: int, end: int) -> Operand:
    return Operand(factor.labels, factor.tensor[..., begin:end])
