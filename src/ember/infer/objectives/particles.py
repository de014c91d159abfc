"""Be the base of objectives that weigh the particles of one step against each other."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember.distributions.scaling import is_identically_zero
from ember.engine.control import capturing, number
from ember.infer.objectives.elbo import ELBO, PARTICLES, warn_not_finite
from ember.poutine.trace_struct import Trace


class Particles(NamedTuple):
    """Log densities of K draws from the guide, each of shape ``(K,)``, and the traces they come from."""

    log_p: Tensor
    log_q: Tensor
    score: Tensor  # the part of log q that belongs to draws without pathwise gradients
    traces: list[tuple[Trace, Trace]]


class ParticleELBO(ELBO):
    """Base of objectives whose value is not a mean over particles; subclasses define :meth:`combine`."""

    @abstractmethod
    def combine(self, particles: Particles) -> tuple[Tensor, Tensor]:
        """Return the objective to be made large, and a surrogate with its gradient; both scalars."""

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return the objective for a single pair of traces, which may hold vectorised particles."""
        return self.combine(stack_particles([(model_trace, guide_trace)], self.num_particles))

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss, without gradients."""
        with torch.no_grad():
            return -number(self._combined(model, guide, args, kwargs)[0])

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss and add its gradient to the parameters' ``grad``."""
        bound, surrogate = self._combined(model, guide, args, kwargs)
        if surrogate.requires_grad:
            (-surrogate).backward(retain_graph=self.retain_graph)
        return -number(bound)

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss as a scalar tensor whose gradient is the estimator's."""
        bound, surrogate = self._combined(model, guide, args, kwargs)
        return -(bound.detach() + surrogate - surrogate.detach())

    def _combined(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        particles = self.draw(model, guide, args, kwargs)
        bound, surrogate = self.combine(particles)
        if not capturing() and not bool(torch.isfinite(bound)):
            warn_not_finite(-bound.item(), tuple(trace for pair in particles.traces for trace in pair))
        return bound, surrogate

    def draw(self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Particles:
        """Draw all particles of a step and score them."""
        return stack_particles(list(self._get_traces(model, guide, args, kwargs)), self.num_particles)


def stack_particles(traces: list[tuple[Trace, Trace]], num_particles: int) -> Particles:
    """Collect log densities by particle, from one pair of traces each or from one vectorised pair."""
    rows = []
    for model_trace, guide_trace in traces:
        rows.append(
            (
                per_particle(model_trace, lambda site: site["log_prob"]),
                per_particle(guide_trace, lambda site: site["log_prob"]),
                per_particle(guide_trace, _score),
            )
        )
    log_p, log_q, score = (torch.cat([row[i].reshape(-1) for row in rows]) for i in range(3))
    count = max(log_p.numel(), log_q.numel(), num_particles)
    return Particles(log_p.expand(count), log_q.expand(count), score.expand(count), traces)


def _score(site: Any) -> Any:
    return site["score_parts"].score_function


def per_particle(trace: Trace, term: Any) -> Tensor:
    """Sum ``term(site)`` over the sample sites of a trace, particle by particle.

    :param trace: a scored trace.
    :returns: a tensor of shape ``(K,)`` if particles are vectorised, else of shape ``()``.
    """
    total = torch.zeros(())
    for site in trace.nodes.values():
        if site["type"] != "sample":
            continue
        value = term(site)
        if is_identically_zero(value):
            continue
        frame = next((frame for frame in site["cond_indep_stack"] if frame.name == PARTICLES), None)
        if frame is None or frame.dim is None or value.ndim < -frame.dim:
            total = total + value.sum()
        else:
            total = total + value.transpose(0, frame.dim).reshape(value.shape[frame.dim], -1).sum(-1)
    return total
