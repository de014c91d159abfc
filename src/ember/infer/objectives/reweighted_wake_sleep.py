"""Train a model by importance weighting, and its guide by wake and sleep phases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.engine.control import number
from ember.infer.dreaming import dream, log_prob_of_dream, observations_of
from ember.infer.objectives.elbo import ELBO
from ember.infer.objectives.particles import Particles, stack_particles
from ember.poutine.trace_struct import Trace


class ReweightedWakeSleep(ELBO):
    """Two losses, for the model's and the guide's parameters (Bornschein & Bengio 2015, arXiv 1406.2751).

    The model's is the importance-weighted bound over K particles. The guide's is ``insomnia`` times the wake
    phase's, ``−Σ_k ŵ_k log q(z_k)`` with normalised weights, plus ``1 − insomnia`` times the sleep phase's,
    the mean of ``−log q(z | x)`` over z and x drawn from the model (Le et al. 2019, arXiv 1805.10469). Draws
    carry no gradients, so that any sites will do.

    For a sleep phase (``insomnia < 1``) model and guide take a keyword argument ``observations``, a dict from
    the names of the observed sites to their values; the guide reads the data from there.

    :param num_particles: K, at least 2.
    :param insomnia: share of the wake phase in the guide's loss, in [0, 1].
    :param model_has_params: whether the model has parameters to train.
    :param num_sleep_particles: draws of the sleep phase; by default K.
    :param options: see :class:`~ember.infer.objectives.elbo.ELBO`.
    :raises ValueError: for values outside these ranges.
    """

    def __init__(
        self,
        num_particles: int = 2,
        insomnia: float = 1.0,
        model_has_params: bool = True,
        num_sleep_particles: int | None = None,
        vectorize_particles: bool = True,
        **options: Any,
    ) -> None:
        if num_particles < 2:
            raise ValueError(f"ReweightedWakeSleep needs at least 2 particles, got {num_particles}")
        if not 0 <= insomnia <= 1:
            raise ValueError(f"insomnia must lie in [0, 1], got {insomnia}")
        super().__init__(num_particles, vectorize_particles=vectorize_particles, **options)
        self.insomnia = insomnia
        self.model_has_params = model_has_params
        self.num_sleep_particles = num_particles if num_sleep_particles is None else num_sleep_particles

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return the bound and a surrogate for the model's and the wake phase's gradients."""
        bound, wake = self._awake(stack_particles([(model_trace, guide_trace)], self.num_particles))
        return bound, bound + wake - wake.detach()

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the model's and the guide's loss, without gradients."""
        with torch.no_grad():
            losses = self._losses(model, guide, args, kwargs)
        return tuple(number(each) for each in losses)

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the two losses and add their gradients to the parameters' ``grad``."""
        losses = self._losses(model, guide, args, kwargs)
        total = losses[0] + losses[1]
        if total.requires_grad:
            total.backward(retain_graph=self.retain_graph)
        return tuple(number(each) for each in losses)

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the sum of the two losses as a scalar tensor."""
        losses = self._losses(model, guide, args, kwargs)
        return losses[0] + losses[1]

    def _losses(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        guide_loss: Any = torch.zeros(())
        if self.insomnia > 0 or self.model_has_params:
            pairs = list(self._get_traces(model, guide, args, kwargs))
            bound, wake = self._awake(stack_particles(pairs, self.num_particles))
            guide_loss = -self.insomnia * wake
        else:
            bound = torch.zeros(())
        if self.insomnia < 1:
            guide_loss = guide_loss - (1 - self.insomnia) * self._asleep(model, guide, args, kwargs)
        return -bound, guide_loss

    def _get_trace(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any], particle_dims: int = 0
    ) -> tuple[Trace, Trace]:
        """Draw first, without gradients; then score the draws as fixed values."""
        with torch.no_grad():
            drawn = poutine.trace(guide).get_trace(*args, **kwargs)
        return super()._get_trace(model, poutine.replay(guide, trace=drawn), args, kwargs, particle_dims)

    def _awake(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """Return the importance-weighted bound, for the model, and the guide's objective."""
        log_p = particles.log_p if self.model_has_params else particles.log_p.detach()
        log_weights = log_p - particles.log_q.detach()
        bound = log_weights.logsumexp(0) - torch.tensor(float(log_weights.numel())).log()
        return bound, torch.dot(log_weights.detach().softmax(0), particles.log_q)

    def _asleep(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Return the mean of log q(z | x) over joint draws of the model."""
        observations_of(
            kwargs,
            "the sleep phase of ReweightedWakeSleep",
            "add the keyword argument to model and guide, or use insomnia=1.0",
        )
        total: Any = 0.0
        for _ in range(self.num_sleep_particles):
            total = total + log_prob_of_dream(guide, dream(model, args, kwargs), args, kwargs)
        return total / self.num_sleep_particles
