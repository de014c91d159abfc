"""Find the parameters behind the param sites of a trace."""

from __future__ import annotations

from torch import Tensor

from ember import poutine


def unconstrained_params(trace: poutine.Trace) -> list[Tensor]:
    """Return the leaves behind the param sites of a trace, each once, in order."""
    leaves: dict[int, Tensor] = {}
    for site in trace.nodes.values():
        if site["type"] == "param":
            leaf = site["value"].unconstrained()
            leaves[id(leaf)] = leaf
    return list(leaves.values())
