"""Tell kinds of site records apart, for programs that prune traces themselves."""

from __future__ import annotations

from typing import Any

from ember.distributions import Unit
from ember.poutine import Trace


def site_is_subsample(site: Any) -> bool:
    """Whether a site draws the minibatch of a plate."""
    return site["type"] == "sample" and type(site["fn"]).__name__ == "_Subsample"


def site_is_factor(site: Any) -> bool:
    """Whether a site was made by ``factor``."""
    return site["type"] == "sample" and isinstance(site["fn"], Unit)


def prune_subsample_sites(trace: Trace) -> Trace:
    """Return a copy of a trace without the sites that draw minibatches."""
    pruned = trace.copy()
    for name in [name for name, site in trace.nodes.items() if site_is_subsample(site)]:
        pruned.remove_node(name)
    return pruned
