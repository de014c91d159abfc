"""Estimate the evidence lower bound by pathwise and score-function gradients."""

from __future__ import annotations

import functools
import operator
from typing import Any

from torch import Tensor

from ember.distributions.scaling import is_identically_zero
from ember.infer.objectives.baseline import Baselines
from ember.infer.objectives.downstream import DownstreamSum
from ember.infer.objectives.elbo import ELBO
from ember.poutine.trace_struct import Trace


class Trace_ELBO(ELBO):
    """The bound E_q[log p − log q], estimated by draws from the guide.

    Reparameterised sites carry gradients through their draws (Kingma & Welling 2014); the others get a
    score-function term (Williams 1992) whose cost is summed only over plates that the site shares
    (Ranganath, Gerrish & Blei 2014), less a baseline where ``infer={"baseline": {...}}`` asks for one (see
    :class:`~ember.infer.objectives.baseline.Baselines`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.baselines = Baselines()

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return the bound and its surrogate; they are one tensor if the guide is fully reparameterised."""
        model_sites = _sample_sites(model_trace)
        guide_sites = _sample_sites(guide_trace)
        log_p = _total(model_sites)
        bound = log_p - _total(guide_sites)
        if all(is_identically_zero(site["score_parts"].score_function) for _, site in guide_sites):
            return bound, bound
        costs = _costs(model_sites, guide_sites)
        surrogate: Any = log_p
        for name, site in guide_sites:
            parts = site["score_parts"]
            if not is_identically_zero(parts.entropy_term):
                surrogate = surrogate - parts.entropy_term.sum()
            if not is_identically_zero(parts.score_function):
                cost = costs.sum_to(site["cond_indep_stack"])
                cost, baseline_loss = self.baselines.subtract(name, site, cost)
                surrogate = surrogate + (cost * parts.score_function).sum() - baseline_loss
        return bound, surrogate


def _sample_sites(trace: Trace) -> list[tuple[str, Any]]:
    return [(name, site) for name, site in trace.nodes.items() if site["type"] == "sample"]


def _total(sites: list[tuple[str, Any]]) -> Any:
    """Sum the log probabilities, without the additions of zero that ``sum`` would record for autograd."""
    terms = [site["log_prob_sum"] for _, site in sites]
    return functools.reduce(operator.add, terms) if terms else 0.0


def _costs(model_sites: list[tuple[str, Any]], guide_sites: list[tuple[str, Any]]) -> DownstreamSum:
    """Collect the terms of log p − log q, each with its plates."""
    costs = DownstreamSum()
    for _, site in model_sites:
        costs.add(site["cond_indep_stack"], site["log_prob"].detach())
    for _, site in guide_sites:
        costs.add(site["cond_indep_stack"], -site["log_prob"].detach())
    return costs
