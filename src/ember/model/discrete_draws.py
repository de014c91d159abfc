"""Draw discrete sites that are summed out of a density back, given the others; say what the sums cost."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

from torch import Tensor

from ember.model.enumeration import EnumeratedScoreMessenger
from ember.model.inspection import SiteTable
from ember.poutine.elimination.backward_draws import draw_backward, values_of
from ember.poutine.elimination.factors import variable_of


class DrawMessenger(EnumeratedScoreMessenger):
    """Draw the enumerated sites from their posterior given the others, into ``drawn``."""

    def finish(self) -> None:
        """Draw all sites jointly."""
        super(EnumeratedScoreMessenger, self).finish()
        _, self.steps = self.eliminated()
        drawn = draw_backward(self.steps, temperature=1)
        self.drawn: dict[str, Tensor] = {}
        for site in self.dependent:
            variable = variable_of(site)
            if variable is not None:
                self.drawn[variable.name] = values_of(site, drawn[variable.id])


class SumReport(NamedTuple):
    """What was summed out of a density, and what it costs."""

    sites: tuple[str, ...]
    number: int  # of variables, those of a plate counted one by one
    steps: int  # summations, those of like sites counted once
    largest: int  # elements of the largest table
    text: str


def report_of(table: SiteTable, names: frozenset[str], steps: list[Any]) -> SumReport:
    """Describe an elimination.

    :param table: of an execution of the model.
    :param names: the sites that are summed out.
    :param steps: the steps of the elimination.
    """
    sites = [table[name] for name in table if name in names]
    kinds: Counter[tuple[str, int, tuple[str, ...]]] = Counter()
    first: dict[Any, str] = {}
    for site in sites:
        values = site.fn.enumerate_support(expand=False).shape[0]
        plates = tuple(f"{frame.name} [{frame.size}]" for frame in site.plates if frame.dim is not None)
        kind = type(site.fn).__name__, values, plates
        kinds[kind] += 1
        first.setdefault(kind, site.name)
    described = []
    for kind, count in kinds.items():
        family, values, plates = kind
        inside = f" in plates {', '.join(plates)}" if plates else ""
        others = f" and {count - 1} like it" if count > 1 else ""
        described.append(f"'{first[kind]}'{others} ({family}, {values} values{inside})")
    largest = max((step.tensor.numel() for step in steps), default=1)
    number = sum(math.prod(site.value.shape[: site.value.ndim - site.fn.event_dim]) for site in sites)
    text = (
        f"summed out: {'; '.join(described)}: {number:,} variables in {len(steps)} steps, "
        f"the largest table of {largest:,} numbers"
    )
    return SumReport(tuple(site.name for site in sites), number, len(steps), largest, text)
