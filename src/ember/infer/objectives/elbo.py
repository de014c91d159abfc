"""Be the base of evidence lower bounds: particles, traces, and the loss with its gradient."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ember import poutine, settings
from ember.distributions import Unit
from ember.engine.control import number
from ember.errors import message
from ember.guides.checks import (
    check_if_enumerated,
    check_model_guide_match,
    remove_subsample_sites,
)
from ember.poutine.plate_messenger import PlateMessenger
from ember.poutine.site_checks import check_site_shape
from ember.poutine.trace_struct import Trace

PARTICLES = "num_particles_vectorized"  # the plate over vectorised particles


class ELBO:
    """Base class of objectives that compare a model's trace with its guide's.

    Subclasses define :meth:`estimate`, or the losses themselves. ``elbo(model, guide)`` is a
    ``torch.nn.Module`` whose forward is the differentiable loss.

    :param num_particles: number of draws from the guide that are averaged.
    :param max_plate_nesting: number of batch dims that plates use; found by a run if needed.
    :param max_iarange_nesting: deprecated name of ``max_plate_nesting``.
    :param vectorize_particles: run all particles at once, as a further batch dim left of all plates.
    :param strict_enumeration_warning: warn if sites ask for enumeration and this objective does none.
    :param ignore_jit_warnings: see :class:`~ember.infer.objectives.jit.CompiledLoss`.
    :param jit_options: see :class:`~ember.infer.objectives.jit.CompiledLoss`.
    :param retain_graph: given to ``backward``.
    :param tail_adaptive_beta: kept for tail-adaptive objectives.
    :raises ValueError: if ``num_particles`` is not positive.
    """

    graph_type = "flat"  # what traces record: "dense" adds edges of possible dependence
    compiled = False  # whether the loss asks to be compiled

    def __init__(
        self,
        num_particles: int = 1,
        max_plate_nesting: float = math.inf,
        max_iarange_nesting: float | None = None,
        vectorize_particles: bool = False,
        strict_enumeration_warning: bool = True,
        ignore_jit_warnings: bool = False,
        jit_options: dict[str, Any] | None = None,
        retain_graph: bool | None = None,
        tail_adaptive_beta: float = -1.0,
    ) -> None:
        if max_iarange_nesting is not None:
            warnings.warn(
                "max_iarange_nesting is deprecated, use max_plate_nesting", FutureWarning, stacklevel=2
            )
            max_plate_nesting = max_iarange_nesting
        if num_particles < 1:
            raise ValueError(f"num_particles must be a positive number, got {num_particles}")
        self.num_particles = num_particles
        self.max_plate_nesting = max_plate_nesting
        self.vectorize_particles = vectorize_particles
        self.strict_enumeration_warning = strict_enumeration_warning
        self.ignore_jit_warnings = ignore_jit_warnings
        self.jit_options = jit_options
        self.retain_graph = retain_graph
        self.tail_adaptive_beta = tail_adaptive_beta

    def __call__(self, model: Callable[..., Any], guide: Callable[..., Any]) -> ELBOModule:
        return ELBOModule(model, guide, self)

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return one draw's bound and a surrogate with the bound's gradient; both scalars.

        The traces hold log probabilities (the guide's also score parts) and no sites of subsampling plates.
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither estimate nor the loss asked for")

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the negative bound, a float (a scalar tensor under a capture), without gradients."""
        total: Any = 0.0
        with torch.no_grad():
            for traces in self._get_traces(model, guide, args, kwargs):
                total -= self._checked(self._estimated(traces)[0], traces)
        return total / self.num_particles

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the negative bound as :meth:`loss` does, and add its gradient to parameters' ``grad``."""
        total: Any = 0.0
        for traces in self._get_traces(model, guide, args, kwargs):
            bound, surrogate = self._estimated(traces)
            total -= self._checked(bound, traces)
            if isinstance(surrogate, Tensor) and surrogate.requires_grad:
                # Not as a starting value of the gradient: torch imports its symbolic shapes to check one.
                (surrogate * (-1.0 / self.num_particles)).backward(retain_graph=self.retain_graph)
        return total / self.num_particles

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the negative bound as a scalar tensor whose gradient is the estimator's."""
        total: Any = 0.0
        for traces in self._get_traces(model, guide, args, kwargs):
            bound, surrogate = self._estimated(traces)
            if not torch.jit.is_tracing():  # when there is no number to look at
                self._checked(bound, traces)
            total = total - (bound if surrogate is bound else bound.detach() + surrogate - surrogate.detach())
        return torch.as_tensor(total / self.num_particles)

    def _estimated(self, traces: tuple[Trace, Trace]) -> tuple[Tensor, Tensor]:
        with _shown(Model=traces[0], Guide=traces[1]):
            return self.estimate(*traces)

    def _checked(self, bound: Any, traces: tuple[Trace, Trace]) -> Any:
        value = number(bound) if isinstance(bound, Tensor) else float(bound)
        if isinstance(value, float) and not math.isfinite(value):
            warn_not_finite(-value, traces)
        return value

    def _get_traces(
        self, model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[tuple[Trace, Trace]]:
        """Yield a pair of model and guide traces for each particle (one pair for all if vectorised)."""
        if self.vectorize_particles and self.num_particles > 1:
            if self.max_plate_nesting == math.inf:
                self.max_plate_nesting = find_max_plate_nesting(model, guide, args, kwargs)
            dim = -int(self.max_plate_nesting) - 1
            plate = PlateMessenger(PARTICLES, self.num_particles, dim=dim)
            yield self._get_trace(plate(model), plate(guide), args, kwargs, particle_dims=1)
        else:
            for _ in range(self.num_particles):
                yield self._get_trace(model, guide, args, kwargs)

    def _get_trace(
        self,
        model: Any,
        guide: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        particle_dims: int = 0,
    ) -> tuple[Trace, Trace]:
        """Run the guide, then the model replayed against it; check and score both."""
        validate = settings.read("validate_infer")
        guide_trace = poutine.trace(guide, graph_type=self.graph_type).get_trace(*args, **kwargs)
        replayed = poutine.replay(model, trace=guide_trace)
        model_trace = poutine.trace(replayed, graph_type=self.graph_type).get_trace(*args, **kwargs)
        nesting = self.max_plate_nesting + particle_dims
        if validate and self.strict_enumeration_warning:
            check_if_enumerated(guide_trace)
        check_and_score(model_trace, guide_trace, nesting, validate)
        return model_trace, guide_trace


def check_and_score(
    model_trace: Trace, guide_trace: Trace, nesting: float, validate: bool, later: Container[str] = ()
) -> None:
    """Compute the log probabilities of a model's trace and its guide's, minibatches left out.

    :param nesting: number of batch dims that plates may take.
    :param validate: check that the traces match, factors and shapes.
    :param later: sites of the model that are like others, and are scored together with those.
    """
    if validate:
        with _shown(Model=model_trace, Guide=guide_trace):
            check_model_guide_match(model_trace, guide_trace, nesting)
            check_factors(guide_trace)
    remove_subsample_sites(guide_trace)
    remove_subsample_sites(model_trace)
    with _shown(Model=model_trace):
        model_trace.compute_log_prob(lambda name, _: name not in later)
    with _shown(Guide=guide_trace):
        guide_trace.compute_score_parts()
    if validate:
        for role, trace in (("Model", model_trace), ("Guide", guide_trace)):
            with _shown(**{role: trace}):
                for name, site in trace.nodes.items():
                    if site["type"] == "sample" and "log_prob" in site:
                        check_site_shape(site, nesting, trace.location(name))


@contextmanager
def _shown(**traces: Trace) -> Iterator[None]:
    """Append the tables of shapes of some traces to errors that show none."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if " Shapes:" in str(error):
            raise
        tables = [trace.format_shapes(f"{role} Shapes:") for role, trace in traces.items()]
        text = "\n".join([str(error), *tables])
        if type(error) not in (ValueError, RuntimeError):  # a class that may be made in another way
            error.add_note(text)
            raise
        raise type(error)(text).with_traceback(error.__traceback__) from error.__cause__


class ELBOModule(torch.nn.Module):
    """A loss module over a model and a guide, for torch's optimisers and trainers.

    Its forward takes the model's arguments and returns the differentiable loss.
    """

    def __init__(self, model: Any, guide: Any, elbo: ELBO) -> None:
        super().__init__()
        self.model = model
        self.guide = guide
        self.elbo = elbo

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the differentiable loss."""
        return self.elbo.differentiable_loss(self.model, self.guide, *args, **kwargs)


def find_max_plate_nesting(model: Any, guide: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Run guide and model once, unseen by other handlers, and count the batch dims that plates use.

    The random state is as before afterwards.
    """
    with poutine.block(), torch.random.fork_rng():
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    dims = [
        -frame.dim
        for trace in (guide_trace, model_trace)
        for site in trace.nodes.values()
        if site["type"] == "sample"
        for frame in site["cond_indep_stack"]
        if frame.dim is not None
    ]
    return max(dims, default=0)


def check_factors(guide_trace: Trace) -> None:
    """Raise ValueError for a factor in a guide whose origin is not said."""
    for name, site in guide_trace.nodes.items():
        fn = site.get("fn")
        while hasattr(fn, "base_dist"):
            fn = fn.base_dist
        if isinstance(fn, Unit) and "has_rsample" not in fn.__dict__:
            raise ValueError(
                message(
                    f"the factor '{name}' in the guide does not say where it comes from",
                    site=name,
                    plates=site["cond_indep_stack"],
                    expected="has_rsample given to factor",
                    fix="factor(..., has_rsample=True) for terms of fully reparameterised sampling, such as "
                    "a Jacobian; has_rsample=False for the rest",
                    where=guide_trace.location(name),
                )
            )


def warn_not_finite(loss: float, traces: tuple[Trace, ...]) -> None:
    """Warn about a bound that is NaN or infinite, naming the first site to blame."""
    kind = "NaN" if math.isnan(loss) else f"{loss}"
    for trace in traces:
        with torch.no_grad():
            trace.compute_log_prob()  # of sites that were scored together
        for name, site in trace.nodes.items():
            if site["type"] != "sample":
                continue
            log_prob_sum = torch.as_tensor(site.get("log_prob_sum", 0.0)).item()
            if not math.isfinite(log_prob_sum):
                warnings.warn(
                    message(
                        f"Encountered {kind}: loss, from site '{name}'",
                        site=name,
                        plates=site["cond_indep_stack"],
                        actual=f"log_prob_sum {log_prob_sum} under {site['fn']}",
                        fix="check the parameters and values at this site; a smaller learning rate may help",
                        where=trace.location(name),
                    ),
                    UserWarning,
                    stacklevel=4,
                )
                return
    warnings.warn(message(f"Encountered {kind}: loss"), UserWarning, stacklevel=4)
