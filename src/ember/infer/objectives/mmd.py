"""Fit a guide by the likelihood and the maximum mean discrepancy between its draws and the prior's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.errors import message
from ember.infer.objectives.elbo import PARTICLES, find_max_plate_nesting
from ember.infer.objectives.particles import ParticleELBO, Particles
from ember.infer.objectives.reparameterised import refuse_scored
from ember.poutine.plate_messenger import PlateMessenger
from ember.poutine.trace_struct import Trace

Kernel = Callable[[Tensor, Tensor], Tensor]


class Trace_MMD(ParticleELBO):
    """The loss ``−E_q[log p(x|z)] + Σ mmd_scale · MMD²(q(z), p(z))``.

    See Zhao, Song & Ermon 2017 (arXiv 1706.02262).
    The discrepancy of each latent site is estimated from K draws of the guide and K of the prior, without
    bias (Gretton et al. 2012). Particles are always vectorised.

    :param kernel: a function of two ``(K, D)`` tensors that returns their ``(K, K)`` kernel matrix, or a dict
        from site name to such a function.
    :param mmd_scale: a number, or a dict from site name to number.
    :param num_particles: K, at least 2.
    :param options: see :class:`~ember.infer.objectives.elbo.ELBO`.
    :raises ValueError: for fewer than 2 particles; in a step, for sites without kernel or pathwise gradient.
    """

    def __init__(
        self,
        kernel: Kernel | Mapping[str, Kernel],
        mmd_scale: float | Mapping[str, float] = 1.0,
        num_particles: int = 10,
        **options: Any,
    ) -> None:
        if num_particles < 2:
            raise ValueError(f"Trace_MMD needs at least 2 particles, got {num_particles}")
        if not options.pop("vectorize_particles", True):
            raise ValueError("Trace_MMD compares particles in one run: vectorize_particles must be True")
        super().__init__(num_particles, vectorize_particles=True, **options)
        self.kernel = kernel
        self.mmd_scale = mmd_scale
        self._prior: Trace | None = None

    def draw(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Particles:
        """Draw all particles from the guide, and as many from the prior."""
        particles = super().draw(model, guide, args, kwargs)
        if self.max_plate_nesting == float("inf"):
            self.max_plate_nesting = find_max_plate_nesting(model, guide, args, kwargs)
        plate = PlateMessenger(PARTICLES, self.num_particles, dim=-int(self.max_plate_nesting) - 1)
        self._prior = poutine.trace(plate(model)).get_trace(*args, **kwargs)
        return particles

    def combine(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """Return the negative loss, which is its own surrogate."""
        ((model_trace, guide_trace),) = particles.traces
        prior, self._prior = self._prior, None
        objective: Any = 0.0
        for site in model_trace.nodes.values():
            if site["type"] == "sample" and site["is_observed"]:
                objective = objective + site["log_prob_sum"] / self.num_particles
        for name, site in guide_trace.nodes.items():
            if site["type"] != "sample" or site["is_observed"] or name not in model_trace.nodes:
                continue
            refuse_scored("Trace_MMD", name, site)
            if prior is None or name not in prior.nodes:
                continue
            scale = (
                self.mmd_scale if isinstance(self.mmd_scale, int | float) else self.mmd_scale.get(name, 1.0)
            )
            pair = [self._rows(trace.nodes[name]) for trace in (guide_trace, prior)]
            objective = objective - scale * discrepancy(self._kernel_of(name), *pair)
        return objective, objective

    def _kernel_of(self, name: str) -> Kernel:
        if not isinstance(self.kernel, Mapping):
            return self.kernel
        if name not in self.kernel:
            raise ValueError(
                message(
                    f"Trace_MMD has no kernel for site '{name}'",
                    site=name,
                    expected="a kernel for each latent site, or one for all",
                    actual=f"kernels for {', '.join(sorted(self.kernel))}",
                )
            )
        return self.kernel[name]

    def _rows(self, site: Any) -> Tensor:
        """Return a site's value as one row for each particle."""
        value = site["value"]
        frame = next(frame for frame in site["cond_indep_stack"] if frame.name == PARTICLES)
        dim = frame.dim - site["fn"].event_dim
        value = value.expand((self.num_particles, *value.shape[1:])) if value.ndim == -dim else value
        return value.transpose(0, dim).reshape(self.num_particles, -1)


def discrepancy(kernel: Kernel, first: Tensor, second: Tensor) -> Tensor:
    """Return the unbiased estimate of MMD² between the laws of two samples, each ``(K, D)``; a scalar."""
    between = kernel(first, second).mean()
    return _off_diagonal_mean(kernel(first, first)) + _off_diagonal_mean(kernel(second, second)) - 2 * between


def _off_diagonal_mean(matrix: Tensor) -> Tensor:
    count = matrix.shape[-1]
    return (matrix.sum() - torch.trace(matrix)) / (count * (count - 1))
