"""Sum variables out of a plated factor graph, in log space and exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ember.errors import message
from ember.poutine.elimination.chain_sums import Loops, sum_chains
from ember.poutine.elimination.contraction import Step, sum_out
from ember.poutine.elimination.factors import Factor, Plates, Variable, log_sum_exp
from ember.poutine.elimination.like_variables import Reduce, StackedStep, sum_alike
from ember.poutine.elimination.rows import Rows, gathered, separated, variables_in

MANY = 16  # variables, from which on it pays to look for like ones


def eliminate(
    factors: Iterable[Factor | Rows],
    variables: Mapping[int, Variable],
    kept: Mapping[int, Plates] | None = None,
    reduce: Reduce = log_sum_exp,
    loops: Loops | None = None,
) -> tuple[list[Factor], list[Step | StackedStep]]:
    """Sum out variables; the log density is the sum over what is left, each with its scale, over its plates.

    Tensor variable elimination (Obermeyer et al. 2019): the variables of the innermost plates are summed out,
    component by component; what depends on variables further out is multiplied over the plates that those
    are not in, and so on outwards. A variable's sum counts as often as its site's scale says; a factor of
    another scale enters it as a power, as the minibatch of an inner plate must. Where the graph repeats
    itself, like variables are summed out together (see :mod:`ember.poutine.elimination.like_variables`).

    :param factors: log factors.
    :param variables: those to sum out, by id.
    :param kept: plates of variables that stay, by id.
    :param reduce: ``log_sum_exp``, or ``log_max``.
    :param loops: control flow for long chains, whose variables are then summed out in loops where that costs
        less, without a record of the steps.
    :returns: the factors that are left, without variables to sum, and the steps taken.
    :raises ValueError: if the plates do not nest so that this can be done, or scales differ within a sum.
    """
    pool = _Pool(variables, kept or {})
    steps: list[Step | StackedStep] = []
    for factor in factors:
        pool.put(factor)
    while pool.waiting:
        leaf, waiting = pool.take_innermost()
        local = {v for each in waiting for v in variables_in(each) if _is_local(v, variables, leaf)}
        if len(local) >= MANY:
            if loops is not None:
                waiting = sum_chains(waiting, local, variables, loops)
                local = {v for each in waiting for v in variables_in(each) if v in local}
            waiting = list(sum_alike(waiting, local, variables, reduce, steps))
        single: list[Factor] = []
        for each in waiting:
            if isinstance(each, Rows) and not any(_is_local(v, variables, leaf) for v in variables_in(each)):
                pool.pass_on(each, leaf)
            else:
                single.extend(separated([each]))
        for component in _components(single, variables, leaf):
            inner = sorted({v for f in component for v in f.variables if _is_local(v, variables, leaf)})
            if inner:
                result = sum_out(component, inner, variables, reduce, steps)._replace(plates=leaf)
            else:
                (result,) = component
            pool.pass_on(result, leaf)
    return pool.left, steps


class _Pool:
    """Factors while an elimination goes on: those that wait, by their plates, and those that are left."""

    def __init__(self, variables: Mapping[int, Variable], kept: Mapping[int, Plates]) -> None:
        self._variables = variables
        self._kept = kept
        self.waiting: dict[Plates, list[Factor | Rows]] = {}
        self.left: list[Factor] = []

    def take_innermost(self) -> tuple[Plates, list[Factor | Rows]]:
        """Remove and return the factors of the innermost plates."""
        leaf = max(self.waiting, key=lambda plates: (len(plates), sorted(plates)))
        return leaf, self.waiting.pop(leaf)

    def put(self, factor: Factor | Rows) -> None:
        """Add a factor of the density."""
        for each in self._sorted(factor):
            self.waiting.setdefault(each.plates, []).append(each)

    def pass_on(self, factor: Factor | Rows, leaf: Plates) -> None:
        """Add a factor from whose plates no variable is left, multiplied over those of ``leaf`` around it."""
        for each in self._sorted(factor):
            for part in self._split(each):
                outer = [self._variables[v] for v in variables_in(part) if v in self._variables]
                parent: Plates = frozenset().union(*(variable.plates for variable in outer))
                if parent == leaf or not parent < leaf:
                    _refuse_plates(leaf, outer)
                _refuse_kept(part, leaf - parent, self._kept)
                self.waiting.setdefault(parent, []).append(_product(part, leaf - parent, parent))

    def _sorted(self, factor: Factor | Rows) -> list[Factor | Rows]:
        """Put aside what depends on no variable to sum out; returns the rest."""
        if isinstance(factor, Factor):
            if any(v in self._variables for v in factor.variables):
                return [factor]
            self.left.append(factor)
            return []
        depends = [any(v in self._variables for v in row) for row in factor.variables]
        free = [position for position, each in enumerate(depends) if not each]
        if free:
            self.left.extend(separated(gathered([factor.take(free)])))
        bound = [position for position, each in enumerate(depends) if each]
        return [factor.take(bound)] if bound else []

    def _split(self, factor: Factor | Rows) -> list[Factor | Rows]:
        """Return factors whose rows depend on variables of the same plates."""
        if isinstance(factor, Factor):
            return [factor]
        groups: dict[Plates, list[int]] = {}
        for position, row in enumerate(factor.variables):
            found = (self._variables[v].plates for v in row if v in self._variables)
            groups.setdefault(frozenset().union(*found), []).append(position)
        return [factor.take(positions) for positions in groups.values()]


def total(factors: Iterable[Factor]) -> Any:
    """Return the sum of log factors over all their elements, scaled: a scalar tensor, or 0.0 if none."""
    result: Any = None
    for factor in factors:
        part = factor.tensor.sum() if factor.tensor.ndim else factor.tensor
        part = part if _is_one(factor.scale) else part * factor.scale
        result = part if result is None else result + part
    return 0.0 if result is None else result


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


def _is_one(scale: Any) -> bool:
    return isinstance(scale, (int, float)) and scale == 1


def _product(factor: Factor | Rows, plates: Plates, parent: Plates) -> Factor | Rows:
    """Multiply a factor over plates."""
    if isinstance(factor, Rows):
        axes = [len(factor.sizes) + factor.plate_names.index(plate) for plate in plates]
        names = tuple(name for name in factor.plate_names if name not in plates)
        return factor._replace(tensor=factor.tensor.sum(axes), plate_names=names)
    axes = [factor.dims.index(plate) for plate in plates]
    dims = tuple(dim for dim in factor.dims if dim not in plates)
    return Factor(dims, factor.tensor.sum(axes), parent, factor.scale)


def _refuse_kept(factor: Factor | Rows, plates: Plates, kept: Mapping[int, Plates]) -> None:
    inner = [v for v in variables_in(factor) if v in kept and kept[v] & plates]
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
