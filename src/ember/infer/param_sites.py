"""Find the parameters of a step, and count its sites."""

from __future__ import annotations

from torch import Tensor

from ember import poutine
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message


def unconstrained_params(trace: poutine.Trace) -> list[Tensor]:
    """Return the leaves behind the param sites of a trace, each once, in order."""
    leaves: dict[int, Tensor] = {}
    for site in trace.nodes.values():
        if site["type"] == "param":
            leaf = site["value"].unconstrained()
            leaves[id(leaf)] = leaf
    return list(leaves.values())


class SiteCounter(Messenger):
    """Count the sample statements that are executed."""

    def __init__(self) -> None:
        self.count = 0

    def _pyro_post_sample(self, msg: Message) -> None:
        self.count += 1
