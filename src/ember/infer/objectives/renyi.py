"""Estimate Rényi's bounds of the evidence, with the importance-weighted bound among them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ember.errors import message
from ember.infer.objectives.particles import ParticleELBO, Particles


class RenyiELBO(ParticleELBO):
    """The bound ``log mean_k (p/q)_k^(1−α) / (1−α)`` over K particles (Li & Turner 2016, arXiv 1602.02311).

    At α = 0 it is the importance-weighted bound (Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519).
    Draws without pathwise gradients get score-function terms, whose baseline is the bound of the other
    particles (Mnih & Rezende 2016, arXiv 1602.06725).

    :param alpha: order of the divergence, not 1.
    :param num_particles: K, at least 2 for a bound other than the evidence lower bound.
    :param options: see :class:`~ember.infer.objectives.elbo.ELBO`.
    :raises ValueError: if ``alpha`` is 1.
    """

    def __init__(self, alpha: float = 0.0, num_particles: int = 2, **options: Any) -> None:
        if alpha == 1:
            raise ValueError(
                message(
                    "RenyiELBO is not defined at alpha=1",
                    expected="alpha != 1",
                    actual="alpha=1",
                    fix="use Trace_ELBO, which is the limit",
                )
            )
        super().__init__(num_particles, **options)
        self.alpha = alpha

    def combine(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """Return the bound and its surrogate."""
        log_weights = particles.log_p - particles.log_q
        powers = (1 - self.alpha) * log_weights
        count = powers.numel()
        bound = (powers.logsumexp(0) - math.log(count)) / (1 - self.alpha)
        if not particles.score.requires_grad:
            return bound, bound
        gain = bound.detach()
        if count > 1:
            others = powers.detach().repeat(count, 1)
            others.fill_diagonal_(-math.inf)
            gain = gain - (others.logsumexp(-1) - math.log(count - 1)) / (1 - self.alpha)
        return bound, bound + torch.dot(gain.expand(count), particles.score)
