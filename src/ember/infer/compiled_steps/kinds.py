"""Tell kinds of steps apart by their arguments, and notice numbers that change from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ember.infer.compiled_steps.arguments import Arguments
from ember.infer.compiled_steps.captured import CapturedSteps
from ember.params import get_param_store

MOST_KINDS = 32  # remembered; those with programs are never forgotten


@dataclass
class Kind:
    """Steps with arguments of one kind: same structure, shapes, dtypes, and values other than tensors."""

    arguments: Arguments
    taken: int = 0  # eager steps with the same parameters
    leaves: list[Tensor] = field(default_factory=list)
    captured: CapturedSteps | None = None
    attempts: int = 0
    sites: int = 0  # in the last eager step
    refused: bool = False  # it has no program because a number's value is part of what the model does

    def note(self, leaves: Sequence[Tensor], sites: int) -> None:
        """Take note of the parameters that an eager step has updated, and of the number of its sites."""
        if len(leaves) != len(self.leaves) or any(
            a is not b for a, b in zip(leaves, self.leaves, strict=True)
        ):
            self.leaves, self.taken = list(leaves), 0
        self.taken += 1
        self.sites = sites


class Kinds:
    """The kinds of steps that were met, the latest first.

    Floats are part of a kind until a second value is met, as in a schedule of annealing. Then they become
    numbers that a program reads, unless a capture shows that the model decides by them.
    """

    def __init__(self) -> None:
        self._kinds: list[Kind] = []
        self._earlier: dict[str, Any] = {}  # what an earlier run has met

    def __iter__(self) -> Any:
        return iter(self._kinds)

    def find(self, arguments: Arguments) -> Kind | None:
        """Return the kind of these arguments; None if there are too many."""
        for kind in self._kinds:
            if not kind.refused and kind.arguments.alike(arguments.in_form_of(kind.arguments)):
                self._kinds.remove(kind)
                self._kinds.insert(0, kind)
                return kind
        return self._add(self._new(arguments))

    def _new(self, arguments: Arguments) -> Kind:
        lifted = arguments.with_lifted_floats()
        if lifted is not None and not any(
            kind.refused and kind.arguments.alike(lifted.in_form_of(kind.arguments)) for kind in self._kinds
        ):
            if lifted.description in self._earlier:
                return Kind(lifted)
            for kind in self._kinds:
                other = kind.arguments.with_lifted_floats()
                if other is not None and other.alike(lifted.in_form_of(other)):
                    return Kind(lifted, kind.taken, kind.leaves, sites=kind.sites)
        return Kind(arguments)

    def _add(self, kind: Kind) -> Kind | None:
        if len(self._kinds) == MOST_KINDS:
            forgettable = [each for each in self._kinds if each.captured is None and not each.refused]
            if not forgettable:
                return None
            self._kinds.remove(forgettable[-1])
        self._kinds.insert(0, kind)
        self._recall(kind)
        return kind

    # -- resuming ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return the eager steps taken, their sites and the parameters' names, for each kind of arguments."""
        known = dict(self._earlier)
        store = get_param_store()
        for kind in reversed(self._kinds):
            names = [store.param_name(leaf) for leaf in kind.leaves]
            if None not in names:
                known[kind.arguments.description] = (kind.taken, kind.sites, names)
        return known

    def set_state(self, state: dict[str, Any]) -> None:
        """Count the eager steps of an earlier run, whose parameters are back in the store."""
        self._earlier = dict(state)
        for kind in self._kinds:
            self._recall(kind)

    def _recall(self, kind: Kind) -> None:
        taken, sites, names = self._earlier.pop(kind.arguments.description, (0, 0, ()))
        leaves = [get_param_store().leaf(name) for name in names]
        if kind.taken < taken and None not in leaves:
            kind.taken, kind.sites = taken, sites
            kind.leaves = [leaf for leaf in leaves if leaf is not None]
