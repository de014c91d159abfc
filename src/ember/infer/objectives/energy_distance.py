"""Fit a guide without a likelihood, by the energy distance between simulated and observed data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.distributions.scaling import scale_and_mask
from ember.guides.checks import remove_subsample_sites, site_is_subsample
from ember.infer.objectives.elbo import ELBO, PARTICLES
from ember.infer.objectives.reparameterised import refuse_scored
from ember.poutine.trace_struct import Trace


class EnergyDistance(ELBO):
    """The loss ``E‖x − y‖^β − ½ E‖x − x′‖^β − prior_scale · E_q[log p(z)]``, without densities of the data.

    x and x′ are data simulated from two draws of the guide, y is the observation, and norms are taken over
    event dims (Gneiting & Raftery 2007, strictly proper scoring rules); the prior's term regularises. For
    β = 1 and one dimension it is the continuous ranked probability score. Model and guide must be
    reparameterised; particles are always vectorised.

    :param beta: exponent, ``0 < beta < 2``.
    :param prior_scale: weight of the prior's log density; at 0 (the default) the prior may be improper.
    :param num_particles: number of simulations, at least 2.
    :param max_plate_nesting: number of batch dims that plates use; found by a run if needed.
    :raises ValueError: for values outside these ranges; in a step, for sites without pathwise gradient.
    """

    def __init__(
        self,
        beta: float = 1.0,
        prior_scale: float = 0.0,
        num_particles: int = 2,
        max_plate_nesting: float = float("inf"),
    ) -> None:
        if not 0 < beta < 2:
            raise ValueError(f"beta must lie between 0 and 2, got {beta}")
        if prior_scale < 0:
            raise ValueError(f"prior_scale must not be negative, got {prior_scale}")
        if num_particles < 2:
            raise ValueError(f"EnergyDistance needs at least 2 particles, got {num_particles}")
        super().__init__(num_particles, max_plate_nesting, vectorize_particles=True)
        self.beta = beta
        self.prior_scale = prior_scale

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return the negative loss, summed over particles, of simulated data; its own surrogate."""
        loss: Any = 0.0
        for name, site in model_trace.nodes.items():
            if site["type"] != "sample" or site["is_observed"]:
                continue
            refuse_scored("EnergyDistance", name, site)
            if site["infer"].get("was_observed"):
                loss = loss + self.num_particles * self._score(site)
            elif self.prior_scale:
                log_prob = site["fn"].log_prob(site["value"])
                log_prior = scale_and_mask(log_prob, site["scale"], site["mask"]).sum()
                loss = loss - self.prior_scale * log_prior
        return -loss, -loss

    def _score(self, site: Any) -> Tensor:
        """Return the energy score of a simulated site, scaled, masked and summed over its batch."""
        simulated, event_dim = site["value"], site["fn"].event_dim
        frame = next(frame for frame in site["cond_indep_stack"] if frame.name == PARTICLES)
        # Particles in front, other batch dims and then event dims in place.
        simulated = simulated.transpose(0, simulated.ndim + frame.dim - event_dim)
        error = _distance(simulated - site["infer"]["obs"], event_dim, self.beta)
        count = self.num_particles
        first, second = torch.triu_indices(count, count, 1)
        spread = _distance(simulated[first] - simulated[second], event_dim, self.beta)
        score = error.mean(0) - 0.5 * spread.mean(0)
        mask = site["mask"]
        if isinstance(mask, Tensor) and mask.ndim >= -frame.dim:
            mask = mask[0]
        return scale_and_mask(score, site["scale"], mask).sum()

    def _get_trace(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any], particle_dims: int = 0
    ) -> tuple[Trace, Trace]:
        """Run the guide, then simulate from the model at its draws; nothing is scored."""
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        simulator = poutine.uncondition(poutine.replay(model, trace=guide_trace))
        model_trace = poutine.trace(simulator).get_trace(*args, **kwargs)
        for name, site in guide_trace.nodes.items():
            if name in model_trace.stochastic_nodes and not site_is_subsample(site):
                refuse_scored("EnergyDistance", name, site)
        remove_subsample_sites(guide_trace)
        remove_subsample_sites(model_trace)
        return model_trace, guide_trace


def _distance(difference: Tensor, event_dim: int, beta: float) -> Tensor:
    norm = difference.flatten(-event_dim).norm(dim=-1) if event_dim else difference.abs()
    return norm if beta == 1 else norm**beta
