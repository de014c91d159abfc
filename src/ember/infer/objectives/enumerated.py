"""Estimate the evidence lower bound with discrete sites summed out exactly."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ember import poutine, settings
from ember.distributions import Bernoulli, Categorical
from ember.engine.control import active_recorder
from ember.errors import message
from ember.infer.discrete import draw_discrete
from ember.infer.enum import iter_sequential_traces
from ember.infer.objectives.elbo import ELBO, PARTICLES, check_and_score, find_max_plate_nesting
from ember.infer.objectives.enumerated_bound import (
    eliminated,
    enumerated_bound,
    group_like_sites,
    log_prob_of,
    variables_of,
    warn_if_none_marked,
)
from ember.poutine.elimination.factors import Factor
from ember.poutine.elimination.provenance import Provenance
from ember.poutine.elimination.sum_product import total
from ember.poutine.enum_messenger import EnumMessenger
from ember.poutine.monte_carlo_messenger import LocalDrawsMessenger
from ember.poutine.plate_messenger import PlateMessenger
from ember.poutine.trace_struct import Trace


class TraceEnum_ELBO(ELBO):
    """The bound E_q[log Σ p − log q], summed exactly over the discrete sites marked for enumeration.

    Sites that the model enumerates (``infer={"enumerate": "parallel"}``, or
    :func:`~ember.infer.config_enumerate`) are summed out of its density and need no site in the guide; what
    the guide enumerates, in parallel or sequentially, is averaged over by the guide's probabilities. Guide
    sites with ``infer={"enumerate": "parallel", "num_samples": n}``, discrete or not, have n draws for each
    combination of their parents' values, and costs are averaged over these. The other sites are sampled as
    by :class:`~ember.infer.Trace_ELBO`; to ask for a baseline is an error.
    """

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return the bound and its surrogate."""
        return enumerated_bound(model_trace, guide_trace)

    def compute_marginals(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> OrderedDict[str, Any]:
        """Return the posterior marginal of each site that the model enumerates, given a draw of the guide.

        Marginals are Categorical over the indices of the site's support, Bernoulli for Bernoulli sites; the
        batch dims are those of the site's plates.

        :raises ValueError: with several particles, or if the guide enumerates.
        """
        traces = self._one_pair(model, guide, args, kwargs, "compute_marginals")
        model_trace = traces[0]
        with torch.enable_grad():
            probes = _probes(model_trace)
            if not probes:
                return OrderedDict()
            left, _ = eliminated(model_trace, {}, list(probes.values()))
            scales = variables_of(model_trace)
            gradients = torch.autograd.grad(total(left), [probe.tensor for probe in probes.values()])
        marginals: OrderedDict[str, Any] = OrderedDict()
        for (name, probe), gradient in zip(probes.items(), gradients, strict=True):
            scale = scales[int(probe.dims[-1])].scale
            marginals[name] = _marginal(model_trace.nodes[name], probe, gradient / scale)
        return marginals

    def sample_posterior(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run the model with enumerated sites drawn from their posterior, given a draw of the guide.

        :raises ValueError: with several particles, or if the guide enumerates.
        """
        with torch.no_grad():
            traces = self._one_pair(model, guide, args, kwargs, "sample_posterior")
            drawn = draw_discrete(traces[0], temperature=1)
        return poutine.replay(model, trace=drawn)(*args, **kwargs)

    def _one_pair(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any], what: str
    ) -> tuple[Trace, Trace]:
        if self.num_particles != 1:
            raise ValueError(f"TraceEnum_ELBO.{what} needs num_particles=1, got {self.num_particles}")
        pair, *others = self._get_traces(model, guide, args, kwargs)
        if others or variables_of(pair[1]):
            raise ValueError(
                message(
                    f"TraceEnum_ELBO.{what} is not offered for guides that enumerate",
                    expected="a guide that samples; enumeration in the model only",
                    fix="leave infer={'enumerate': ...} out in the guide",
                )
            )
        return pair

    def _get_traces(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[tuple[Trace, Trace]]:
        if self.max_plate_nesting == math.inf:
            self.max_plate_nesting = find_max_plate_nesting(model, guide, args, kwargs)
        if self.vectorize_particles and self.num_particles > 1:
            dim = -int(self.max_plate_nesting) - 1
            plate = PlateMessenger(PARTICLES, self.num_particles, dim=dim)
            yield from self._enumerate(plate(model), plate(guide), args, kwargs, 1)
        else:
            for _ in range(self.num_particles):
                yield from self._enumerate(model, guide, args, kwargs, 0)

    def _enumerate(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any], particle_dims: int
    ) -> Iterator[tuple[Trace, Trace]]:
        """Yield the pair of traces for each combination of the guide's sequentially enumerated values."""
        nesting = int(self.max_plate_nesting) + particle_dims
        enumerated = LocalDrawsMessenger(-1 - nesting)(guide)
        for guide_trace in iter_sequential_traces(enumerated, *args, **kwargs):
            yield self._model_beside(model, guide_trace, args, kwargs, nesting)

    def _model_beside(
        self, model: Any, guide_trace: Trace, args: tuple[Any, ...], kwargs: dict[str, Any], nesting: int
    ) -> tuple[Trace, Trace]:
        used = [
            site["infer"]["_enumerate_dim"]
            for site in guide_trace.nodes.values()
            if site["type"] == "sample" and site["infer"].get("_enumerate_dim") is not None
        ]
        replayed = poutine.replay(model, trace=guide_trace)
        enumerated = EnumMessenger(-1 - nesting, reserved=used)(replayed)
        # Eagerly it would cost more than it saves.
        provenance = Provenance() if active_recorder.get() is not None else None
        with provenance or nullcontext():
            model_trace = poutine.trace(enumerated).get_trace(*args, **kwargs)
        group_like_sites(model_trace, provenance)
        validate = settings.read("validate_infer")
        _refuse_sequential(model_trace, guide_trace)
        _refuse_baselines(guide_trace)
        if validate and self.strict_enumeration_warning:
            warn_if_none_marked("TraceEnum_ELBO", model_trace, guide_trace)
        later = model_trace.like_sites.others if model_trace.like_sites is not None else ()
        check_and_score(model_trace, guide_trace, nesting, validate, later)
        return model_trace, guide_trace


def _refuse_sequential(model_trace: Trace, guide_trace: Trace) -> None:
    for name, site in model_trace.nodes.items():
        sequential = site["type"] == "sample" and site["infer"].get("enumerate") == "sequential"
        if sequential and not site["is_observed"] and name not in guide_trace:
            raise ValueError(
                message(
                    f"the model's site '{name}' asks for sequential enumeration, which only guides can do",
                    site=name,
                    plates=site["cond_indep_stack"],
                    expected="infer={'enumerate': 'parallel'} in the model",
                    actual="infer={'enumerate': 'sequential'}",
                    fix="enumerate in parallel, or put the site in the guide",
                )
            )
    for name, site in guide_trace.nodes.items():
        if site["type"] != "sample" or site["infer"].get("enumerate") != "sequential":
            continue
        plates = [frame for frame in site["cond_indep_stack"] if frame.dim is not None]
        if plates and not site["is_observed"]:
            particles = len(plates) == 1 and plates[0].name == PARTICLES
            raise ValueError(
                message(
                    f"the site '{name}' is enumerated sequentially inside vectorised plates",
                    site=name,
                    plates=site["cond_indep_stack"],
                    expected="sequential enumeration outside of vectorised plates",
                    fix="use infer={'enumerate': 'parallel'}, "
                    + ("or leave vectorize_particles out" if particles else "or loop over the plate"),
                )
            )


def _refuse_baselines(guide_trace: Trace) -> None:
    for name, site in guide_trace.nodes.items():
        if site["type"] == "sample" and site["infer"].get("baseline"):
            raise ValueError(
                message(
                    f"the site '{name}' asks for a baseline, which TraceEnum_ELBO does not offer",
                    site=name,
                    plates=site["cond_indep_stack"],
                    expected="no infer={'baseline': ...}",
                    actual=f"baseline={site['infer']['baseline']!r}",
                    fix="enumerate the site, leave the baseline out, or use Trace_ELBO or TraceGraph_ELBO",
                )
            )


def _probes(model_trace: Trace) -> dict[str, Factor]:
    """Return a factor of zeros for each enumerated site: derivatives by them are its marginals."""
    probes = {}
    for name, site in model_trace.nodes.items():
        if site["type"] != "sample" or site["infer"].get("_enumerate_dim") is None:
            continue
        dim = site["infer"]["_enumerate_dim"]
        frames = sorted(
            (frame for frame in site["cond_indep_stack"] if frame.dim is not None), key=lambda f: f.dim
        )
        size = site["value"].shape[dim - len(site["fn"].event_shape)]
        zeros = torch.zeros(
            [int(frame.size) for frame in frames] + [size],
            dtype=log_prob_of(site).dtype,
            device=site["value"].device,
            requires_grad=True,
        )
        variable = site["infer"]["_dim_to_id"][dim]
        names = [frame.name for frame in frames]
        probes[name] = Factor((*names, variable), zeros, frozenset(names), site["scale"])
    return probes


def _marginal(site: Any, probe: Factor, probs: Tensor) -> Any:
    frames = sorted((f.dim for f in site["cond_indep_stack"] if f.dim is not None), reverse=True)
    for position, dim in enumerate(frames):  # plates may leave dims of size 1 between them
        for _ in range(-dim - 1 - position - (probs.ndim - 1 - len(frames))):
            probs = probs.unsqueeze(probs.ndim - 1 - position)
    fn = site["fn"]
    while hasattr(fn, "base_dist") and not isinstance(fn, (Bernoulli, Categorical)):
        fn = fn.base_dist
    if isinstance(fn, Bernoulli):
        return Bernoulli(probs=probs[..., 1].clamp(0, 1))
    return Categorical(probs=probs)
