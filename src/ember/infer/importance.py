"""Weigh draws from a guide by how likely the model finds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.distributions import Categorical, Empirical
from ember.errors import message
from ember.guides.checks import remove_subsample_sites
from ember.infer.objectives.elbo import PARTICLES, find_max_plate_nesting
from ember.infer.objectives.particles import per_particle
from ember.poutine.plate_messenger import PlateMessenger
from ember.poutine.trace_struct import Trace


class TracePosterior:
    """Base of algorithms that give weighted traces of a model; subclasses define :meth:`_traces`.

    After :meth:`run`, ``exec_traces`` holds the traces, ``log_weights`` their logarithmic weights.
    """

    def __init__(self) -> None:
        self.exec_traces: list[Trace] = []
        self.log_weights: list[Any] = []

    def _traces(self, *args: Any, **kwargs: Any) -> Iterator[tuple[Trace, Any]]:
        """Yield pairs of a trace and its logarithmic weight."""
        raise TypeError(f"{type(self).__name__} does not say how to draw traces")

    def run(self, *args: Any, **kwargs: Any) -> TracePosterior:
        """Draw the traces, in place of earlier ones; arguments are the model's."""
        self.exec_traces, self.log_weights = [], []
        with poutine.block(), torch.no_grad():
            for trace, log_weight in self._traces(*args, **kwargs):
                self.exec_traces.append(trace)
                self.log_weights.append(log_weight)
        return self

    def _weights(self) -> Tensor:
        if not self.exec_traces:
            raise ValueError(f"{type(self).__name__} has no draws yet; call run(...) first")
        return torch.stack([torch.as_tensor(each) for each in self.log_weights])

    def __call__(self, *args: Any, **kwargs: Any) -> Trace:
        """Return one of the traces, drawn by weight (after a run with these arguments if there are none)."""
        if not self.exec_traces:
            self.run(*args, **kwargs)
        return self.exec_traces[int(Categorical(logits=self._weights()).sample())]

    def marginal(self, sites: str | Sequence[str] | None = None) -> EmpiricalMarginal:
        """Return the law of a site's value, of several sites' values (stacked), or of the model's result."""
        return EmpiricalMarginal(self, sites)


class EmpiricalMarginal(Empirical):
    """The weighted values of a site in the traces of a :class:`TracePosterior`.

    :param trace_posterior: the algorithm, after its run.
    :param sites: a name, or names of sites of one shape; by default the model's result.
    :raises ValueError: if there are no traces, or a site is not in them.
    """

    def __init__(
        self,
        trace_posterior: TracePosterior,
        sites: str | Sequence[str] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        weights = trace_posterior._weights()
        names = ["_RETURN"] if sites is None else [sites] if isinstance(sites, str) else list(sites)
        rows = []
        for trace in trace_posterior.exec_traces:
            missing = [name for name in names if name not in trace.nodes]
            if missing:
                raise ValueError(f"no site '{missing[0]}' in the traces; there are {', '.join(trace.nodes)}")
            values = [torch.as_tensor(trace.nodes[name]["value"]) for name in names]
            rows.append(values[0] if len(values) == 1 else torch.stack(values))
        super().__init__(torch.stack(rows), weights, validate_args=validate_args)


class Importance(TracePosterior):
    """Importance sampling: draws from a guide, weighted by p/q.

    :param model: the model.
    :param guide: its guide; by default the prior, with the likelihood as weight.
    :param num_samples: number of draws.
    :raises ValueError: if it is not positive.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any] | None = None,
        num_samples: int | None = None,
    ) -> None:
        super().__init__()
        if num_samples is None:
            num_samples = 10
        if num_samples < 1:
            raise ValueError(f"num_samples must be positive, got {num_samples}")
        self.model = model
        self.num_samples = num_samples
        self.guide = poutine.block(model, hide_types=["observe"]) if guide is None else guide

    def _traces(self, *args: Any, **kwargs: Any) -> Iterator[tuple[Trace, Any]]:
        for _ in range(self.num_samples):
            guide_trace = poutine.trace(self.guide).get_trace(*args, **kwargs)
            replayed = poutine.replay(self.model, trace=guide_trace)
            model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
            yield model_trace, model_trace.log_prob_sum() - guide_trace.log_prob_sum()

    def get_normalized_weights(self, log_scale: bool = False) -> Tensor:
        """Return the weights, ``(num_samples,)``, of sum one (their logarithms if ``log_scale``)."""
        weights = self._weights().log_softmax(0)
        return weights if log_scale else weights.exp()

    def get_log_normalizer(self) -> Tensor:
        """Return the estimate of the log evidence, a scalar."""
        weights = self._weights()
        return weights.logsumexp(0) - math.log(len(weights))

    def get_ESS(self) -> Tensor:
        """Return Kish's effective number of draws, a scalar: one over the sum of squared weights."""
        return (-(2 * self.get_normalized_weights(log_scale=True)).logsumexp(0)).exp()


class TracePredictive(TracePosterior):
    """Runs of a model with latent values from the traces of another algorithm.

    :param model: the model.
    :param posterior: the algorithm whose traces are drawn from, by weight; run first if it was not.
    :param num_samples: number of runs.
    :param keep_sites: names of the latent sites whose values are kept; by default all. The others are drawn.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        posterior: TracePosterior,
        num_samples: int,
        keep_sites: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.posterior = posterior
        self.num_samples = num_samples
        self.keep_sites = keep_sites

    def _traces(self, *args: Any, **kwargs: Any) -> Iterator[tuple[Trace, Any]]:
        for _ in range(self.num_samples):
            known = self.posterior(*args, **kwargs)
            kept = Trace()
            for name, site in known.iter_stochastic_nodes():
                if self.keep_sites is None or name in self.keep_sites:
                    kept.add_record(name, site.copy())
            remove_subsample_sites(kept)
            yield poutine.trace(poutine.replay(self.model, trace=kept)).get_trace(*args, **kwargs), 0.0


def vectorized_importance_weights(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    num_samples: int = 1,
    max_plate_nesting: int | None = None,
    normalized: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Trace, Trace]:
    """Compute log p − log q of many draws of the guide in one run.

    :param num_samples: number of draws.
    :param max_plate_nesting: number of batch dims that plates use; found by a run if None.
    :param normalized: return logarithms of weights that sum to one.
    :returns: log weights, ``(num_samples,)``, and the vectorised traces of model and guide.
    """
    if max_plate_nesting is None:
        max_plate_nesting = find_max_plate_nesting(model, guide, args, kwargs)
    plate = PlateMessenger(PARTICLES, num_samples, dim=-int(max_plate_nesting) - 1)
    guide_trace = poutine.trace(plate(guide)).get_trace(*args, **kwargs)
    replayed = poutine.replay(plate(model), trace=guide_trace)
    model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
    for trace in (guide_trace, model_trace):
        remove_subsample_sites(trace)
        trace.compute_log_prob()
    log_p, log_q = (per_particle(trace, _log_prob) for trace in (model_trace, guide_trace))
    weights = (log_p - log_q).expand(num_samples)
    return weights.log_softmax(0) if normalized else weights, model_trace, guide_trace


def _log_prob(site: Any) -> Any:
    return site["log_prob"]


@torch.no_grad()
def psis_diagnostic(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    num_particles: int = 1000,
    max_simultaneous_particles: int | None = None,
    max_plate_nesting: int = 7,
    **kwargs: Any,
) -> float:
    """Return the shape k̂ of the tail of a guide's importance weights (Yao et al. 2018, arXiv 1802.02538).

    Below 0.5 the guide is close to the posterior; above 0.7 its reweighted draws cannot be trusted.

    :param num_particles: number of draws.
    :param max_simultaneous_particles: number of draws in one run; all by default.
    :param max_plate_nesting: number of batch dims that plates use.
    :raises ValueError: if ``num_particles`` is no multiple of ``max_simultaneous_particles``.
    """
    together = num_particles if max_simultaneous_particles is None else max_simultaneous_particles
    if num_particles % together:
        raise ValueError(
            message(
                "num_particles must be a multiple of max_simultaneous_particles",
                actual=f"{num_particles} and {together}",
            )
        )
    options = {"num_samples": together, "max_plate_nesting": max_plate_nesting, **kwargs}
    weights = [
        vectorized_importance_weights(model, guide, *args, **options)[0]
        for _ in range(num_particles // together)
    ]
    return smooth_weights(torch.cat(weights))[1]


def smooth_weights(log_weights: Tensor) -> tuple[Tensor, float]:
    """Replace the largest importance weights by quantiles of a Pareto tail fitted to them (PSIS).

    Vehtari, Simpson, Gelman, Yao & Gabry 2024, arXiv 1507.02646, as ArviZ computes it.

    :param log_weights: logarithms of weights, ``(draws,)``.
    :returns: smoothed ones, whose weights sum to one, and the shape k̂ of the tail.
    """
    from arviz import psislw

    smoothed, k_hat = psislw(log_weights.detach().double().cpu().numpy())
    return torch.as_tensor(smoothed).to(log_weights), float(k_hat)
