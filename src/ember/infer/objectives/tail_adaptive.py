"""Fit guides under a divergence whose weights adapt to the tail of the importance ratios."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.guides.checks import remove_subsample_sites
from ember.infer.objectives.elbo import PARTICLES
from ember.infer.objectives.particles import ParticleELBO, Particles, per_particle
from ember.infer.objectives.reparameterised import refuse_scored
from ember.poutine.plate_messenger import PlateMessenger
from ember.poutine.trace_struct import Trace


class TraceTailAdaptive_ELBO(ParticleELBO):
    """Tail-adaptive f-divergence (Wang, Liu & Liu 2018, arXiv 1810.11943, algorithm 1).

    Each particle's pathwise gradient of log p/q is weighted by a power ``tail_adaptive_beta`` (−1 by default,
    0 for the usual bound) of the fraction of particles whose ratio is at least its own. The reported loss is
    the weighted mean of log q/p, which is no bound of the evidence.

    :param num_particles: K, at least 2.
    :param options: see :class:`~ember.infer.objectives.elbo.ELBO`.
    :raises ValueError: if ``num_particles`` is less than 2, or (in a step) a site has no pathwise gradient.
    """

    def __init__(self, num_particles: int = 10, **options: Any) -> None:
        if num_particles < 2:
            raise ValueError(f"TraceTailAdaptive_ELBO needs at least 2 particles, got {num_particles}")
        super().__init__(num_particles, **options)

    def combine(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """Return the weighted mean of log p/q as value and surrogate."""
        ratios = particles.log_p - particles.log_q
        fixed = ratios.detach()
        # The largest ratio has the smallest tail, 1/K.
        tail = (fixed.unsqueeze(0) >= fixed.unsqueeze(1)).to(ratios.dtype).mean(1)
        weights = tail**self.tail_adaptive_beta
        bound = torch.dot(weights / weights.sum(), ratios)
        return bound, bound

    def draw(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Particles:
        """Draw and score all particles; log q carries gradients through the draws only."""
        runs: list[Trace] = []

        def recorded(*args: Any, **kwargs: Any) -> Any:
            with poutine.trace() as recorder:
                result = guide(*args, **kwargs)
            runs.append(recorder.trace)
            return result

        particles = super().draw(model, recorded, args, kwargs)
        for _, guide_trace in particles.traces:
            for name, site in guide_trace.nodes.items():
                if site["type"] == "sample" and not site["is_observed"]:
                    refuse_scored("TraceTailAdaptive_ELBO", name, site)
        if not torch.is_grad_enabled():
            return particles
        runs = runs[-len(particles.traces) :]
        explicit = torch.cat([self._explicit_log_q(guide, run, args, kwargs).reshape(-1) for run in runs])
        explicit = explicit.expand(particles.log_q.shape)
        return particles._replace(log_q=particles.log_q - explicit + explicit.detach())

    def _explicit_log_q(
        self, guide: Any, run: Trace, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """Score the fixed draws: log q as a function of the parameters alone."""
        fixed = run.copy()
        fixed.detach_()
        if self.vectorize_particles:
            guide = PlateMessenger(PARTICLES, self.num_particles, dim=-int(self.max_plate_nesting) - 1)(guide)
        trace = poutine.trace(poutine.replay(guide, trace=fixed)).get_trace(*args, **kwargs)
        remove_subsample_sites(trace)
        trace.compute_log_prob()
        return per_particle(trace, lambda site: site["log_prob"])
