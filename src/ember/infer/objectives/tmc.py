"""Estimate the log evidence from all combinations of several draws of each site."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ember import poutine, settings
from ember.distributions.scaling import ScoreParts, is_identically_zero, scale_and_mask
from ember.errors import message
from ember.infer.objectives.elbo import ELBO, check_and_score, find_max_plate_nesting
from ember.infer.objectives.enumerated_bound import (
    model_factors,
    sample_sites,
    variables_of,
    warn_if_none_marked,
)
from ember.poutine.elimination.factors import Factor, align, joined_dims, pack
from ember.poutine.elimination.sum_product import eliminate, total
from ember.poutine.monte_carlo_messenger import MonteCarloMessenger
from ember.poutine.trace_struct import Trace


class TraceTMC_ELBO(ELBO):
    """The bound E[log Ẑ] by tensor Monte Carlo (Aitchison 2019, arXiv 1806.08593).

    A site with ``infer={"enumerate": "parallel", "num_samples": K}`` gets K draws, and Ẑ is the mean of the
    importance weights of *all combinations* of the draws of all sites, summed by variable elimination: with n
    independent sites Kⁿ particles at the cost of n K. Such sites stand in the guide, or in the model alone,
    where their prior proposes. Sites marked for enumeration without ``num_samples`` are summed exactly.
    ``config_enumerate(default="parallel", num_samples=K)`` marks all sites of a program. Draws without
    pathwise gradients get score-function terms.

    :raises ValueError: (in a step) for sites that ask for sequential enumeration.
    """

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return the bound and its surrogate."""
        variables = {**variables_of(guide_trace), **variables_of(model_trace)}
        proposed = [(site, True) for site in sample_sites(guide_trace) if not _is_exact(site)]
        # As where discrete sites are summed out, the model's own sites keep their prior under masks.
        proposed += [
            (site, False) for site in model_trace.nodes.values() if _is_proposed_by_model(site, guide_trace)
        ]
        factors = model_factors(model_trace, {v for v in variables if v not in variables_of(guide_trace)})
        scores: list[Factor] = []
        for site, masked in proposed:
            factors.append(_divisor(site, masked))
            if not is_identically_zero(site["score_parts"].score_function):
                scores.append(pack({**site, "scale": 1.0}, site["score_parts"].score_function))
        left, _ = eliminate(factors, variables)
        bound = torch.as_tensor(total(left))
        surrogate = bound
        for score in scores:
            for cost in left:
                surrogate = surrogate + _score_term(score, cost)
        return bound, surrogate

    def _get_traces(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[tuple[Trace, Trace]]:
        if self.max_plate_nesting == math.inf:
            self.max_plate_nesting = find_max_plate_nesting(model, guide, args, kwargs)
        return super()._get_traces(model, guide, args, kwargs)

    def _get_trace(
        self,
        model: Any,
        guide: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        particle_dims: int = 0,
    ) -> tuple[Trace, Trace]:
        nesting = int(self.max_plate_nesting) + particle_dims
        guide_trace = poutine.trace(MonteCarloMessenger(-1 - nesting)(guide)).get_trace(*args, **kwargs)
        used = [site["infer"]["_enumerate_dim"] for site in _enumerated(guide_trace)]
        replayed = poutine.replay(model, trace=guide_trace)
        handler = MonteCarloMessenger(-1 - nesting, reserved=used)
        model_trace = poutine.trace(handler(replayed)).get_trace(*args, **kwargs)
        _refuse_sequential(model_trace, guide_trace)
        if settings.read("validate_infer") and self.strict_enumeration_warning:
            warn_if_none_marked("TraceTMC_ELBO", model_trace, guide_trace)
        _score_proposals(guide_trace)
        check_and_score(model_trace, guide_trace, nesting, settings.read("validate_infer"))
        for site in model_trace.nodes.values():
            if _is_proposed_by_model(site, guide_trace):
                site["score_parts"] = _score_parts(site)
        return model_trace, guide_trace


def _enumerated(trace: Trace) -> list[Any]:
    return [
        site
        for site in trace.nodes.values()
        if site["type"] == "sample" and site["infer"].get("_enumerate_dim") is not None
    ]


def _is_exact(site: Any) -> bool:
    """Whether a site holds all its values: then the sum needs no weights."""
    return site["infer"].get("_enumerate_dim") is not None and "_proposal" not in site["infer"]


def _is_proposed_by_model(site: Any, guide_trace: Trace) -> bool:
    return site["type"] == "sample" and "_proposal" in site["infer"] and site["name"] not in guide_trace


def _score_parts(site: Any) -> ScoreParts:
    """Return the parts of the draws' own density, where the rest of the program knows the site's."""
    proposal = site["infer"]["_proposal"]
    score: Any = 0 if site["fn"].has_rsample else proposal.log_picked
    return ScoreParts(proposal.log_density, score, 0).scale_and_mask(site["scale"], site["mask"])


def _score_proposals(guide_trace: Trace) -> None:
    """Set the log probabilities of sites with several draws, which do not vary with all their parents'."""
    for site in _enumerated(guide_trace):
        if "_proposal" in site["infer"]:
            site["unscaled_log_prob"] = site["infer"]["_proposal"].log_density
            site["score_parts"] = _score_parts(site)
            site["log_prob"] = site["score_parts"].log_prob
            site["log_prob_sum"] = site["log_prob"].sum()


def _divisor(site: Any, masked: bool) -> Factor:
    """Return the factor by which the weights of a site's draws are divided, and the mean over them taken."""
    proposal = site["infer"].get("_proposal")
    log_density = site["unscaled_log_prob"] if proposal is None else proposal.log_density
    if masked and site["mask"] is not None:
        log_density = scale_and_mask(log_density, 1.0, site["mask"])
    if proposal is not None:
        log_density = log_density + math.log(proposal.num_samples)
    return pack(site, -log_density)


def _score_term(score: Factor, cost: Factor) -> Tensor:
    """Multiply a fixed cost by the scores of the draws in the same elements of the plates that both have."""
    # All the draws of a site went into the cost.
    axes = [axis for axis, dim in enumerate(score.dims) if isinstance(dim, int)]
    if axes:
        plates = tuple(dim for dim in score.dims if not isinstance(dim, int))
        score = Factor(plates, score.tensor.sum(axes), score.plates)
    dims = joined_dims([score, cost])
    return (align(cost, dims).detach() * cost.scale * align(score, dims)).sum()


def _refuse_sequential(*traces: Trace) -> None:
    for trace in traces:
        for name, site in trace.nodes.items():
            if site["type"] == "sample" and site["infer"].get("enumerate") == "sequential":
                raise ValueError(
                    message(
                        f"the site '{name}' asks for sequential enumeration, which TraceTMC_ELBO does not do",
                        site=name,
                        plates=site["cond_indep_stack"],
                        expected="infer={'enumerate': 'parallel'}, with num_samples for draws",
                        actual="infer={'enumerate': 'sequential'}",
                        fix="enumerate in parallel, or use TraceEnum_ELBO",
                    )
                )
