"""Follow the posterior of a state through time by weighted particles."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.distributions import Categorical, Empirical
from ember.errors import message
from ember.guides.checks import remove_subsample_sites
from ember.infer.objectives.elbo import PARTICLES
from ember.infer.objectives.particles import per_particle
from ember.poutine.plate_messenger import PlateMessenger
from ember.poutine.trace_struct import Trace


class SMCFailed(ValueError):
    """Says that no particle has a positive and finite weight."""


class SMCState(dict[str, Any]):
    """A dict of the particles' values by name; only tensors with a leading dim of particles.

    :param num_particles: number of particles K.
    """

    def __init__(self, num_particles: int) -> None:
        super().__init__()
        self._num_particles = num_particles
        self._log_weights = torch.zeros(num_particles)

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.ndim and value.shape[0] != self._num_particles:
            raise ValueError(
                message(
                    f"the state's value '{name}' does not have the particles in front",
                    expected=f"shape ({self._num_particles}, ...)",
                    actual=tuple(value.shape),
                    fix="make particles the leftmost dim, and give the filter max_plate_nesting",
                )
            )
        super().__setitem__(name, value)

    def _resample(self, index: Tensor) -> None:
        for name, value in self.items():
            if isinstance(value, Tensor) and value.ndim:
                super().__setitem__(name, value[index])
        self._log_weights = torch.zeros_like(self._log_weights)


class SMCFilter:
    """A particle filter, with systematic resampling when the effective number of particles gets small.

    ``model`` and ``guide`` are objects with methods ``init(state, *args)`` and ``step(state, *args)`` that
    make sample statements (of names that differ from step to step or not) and keep values in ``state``, a
    dict; the guide's first. Draws have a leading dim of particles.

    :param model: the model.
    :param guide: the proposal, of the same sites.
    :param num_particles: number of particles K.
    :param max_plate_nesting: number of batch dims that plates in the model use.
    :param ess_threshold: fraction of K below which the effective number makes the filter resample, in (0, 1].
    :raises ValueError: for values outside these ranges.
    """

    def __init__(
        self,
        model: Any,
        guide: Any,
        num_particles: int,
        max_plate_nesting: int,
        *,
        ess_threshold: float = 0.5,
    ) -> None:
        if num_particles < 1:
            raise ValueError(f"num_particles must be positive, got {num_particles}")
        if not 0 < ess_threshold <= 1:
            raise ValueError(f"ess_threshold must lie in (0, 1], got {ess_threshold}")
        self.model = model
        self.guide = guide
        self.num_particles = num_particles
        self.max_plate_nesting = max_plate_nesting
        self.ess_threshold = ess_threshold
        self.state = SMCState(num_particles)
        self.log_evidence = 0.0  # of the data so far

    def init(self, *args: Any, **kwargs: Any) -> None:
        """Start anew: run ``init`` of guide and model."""
        self.state = SMCState(self.num_particles)
        self.log_evidence = 0.0
        self._advance("init", args, kwargs)

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Move on in time: run ``step`` of guide and model, weigh, and resample if needed.

        :raises SMCFailed: if no particle explains the data.
        """
        self._advance("step", args, kwargs)

    @torch.no_grad()
    def _advance(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(poutine.block())
            stack.enter_context(
                PlateMessenger(PARTICLES, self.num_particles, dim=-1 - self.max_plate_nesting)
            )
            # The guide works on a copy: what it notes in the state is its own.
            proposal = SMCState(self.num_particles)
            proposal.update(self.state)
            guide_trace = poutine.trace(getattr(self.guide, method)).get_trace(proposal, *args, **kwargs)
            replayed = poutine.replay(getattr(self.model, method), trace=guide_trace)
            model_trace = poutine.trace(replayed).get_trace(self.state, *args, **kwargs)
        self._weigh(model_trace, guide_trace)

    def _weigh(self, model_trace: Trace, guide_trace: Trace) -> None:
        terms = []
        for trace in (model_trace, guide_trace):
            remove_subsample_sites(trace)
            trace.compute_log_prob()
            terms.append(per_particle(trace, _log_prob))
        before = self.state._log_weights.logsumexp(0)
        weights = self.state._log_weights + terms[0] - terms[1]
        total = weights.logsumexp(0)
        if not bool(torch.isfinite(total)):
            raise SMCFailed(
                message(
                    "the particle filter lost all particles",
                    expected="a finite weight for at least one particle",
                    actual=f"log of the total weight {total.item()}",
                    fix="use more particles, or a guide that looks at the data",
                )
            )
        self.log_evidence += (total - before).item()
        self.state._log_weights = weights - total + math.log(self.num_particles)
        probabilities = weights.softmax(0)
        if 1 / probabilities.square().sum() < self.ess_threshold * self.num_particles:
            self.state._resample(systematic_indices(probabilities))

    def get_empirical(self) -> dict[str, Empirical]:
        """Return the weighted particles' law of each value in the state."""
        return {
            name: Empirical(value, self.state._log_weights)
            for name, value in self.state.items()
            if isinstance(value, Tensor) and value.ndim
        }


def _log_prob(site: Any) -> Any:
    return site["log_prob"]


def systematic_indices(probabilities: Tensor) -> Tensor:
    """Draw K indices by one uniform number (Kitagawa 1996): each about K times its probability.

    :param probabilities: ``(K,)``, of sum one.
    """
    count = probabilities.shape[0]
    places = (torch.arange(count) + torch.rand(())) / count
    return torch.searchsorted(probabilities.double().cumsum(0), places.double()).clamp(max=count - 1)


class Resampler:
    """Sampling–importance–resampling of a simulator's draws, for plotting under changing data.

    The guide is run once for many draws; :meth:`sample` then picks some of them by the weight that a model
    gives them, so that it can be called often.

    :param guide: a function that draws the latent sites.
    :param simulator: a model whose values are kept, replayed against the guide's draws.
    :param num_guide_samples: number of draws.
    :param max_plate_nesting: number of batch dims that plates use.
    """

    def __init__(
        self, guide: Any, simulator: Any, num_guide_samples: int, *, max_plate_nesting: int = 0
    ) -> None:
        self.num_guide_samples = num_guide_samples
        self._plate = PlateMessenger(PARTICLES, num_guide_samples, dim=-1 - max_plate_nesting)
        with torch.no_grad(), poutine.block():
            self._guide_trace = poutine.trace(self._plate(guide)).get_trace()
            replayed = poutine.replay(self._plate(simulator), trace=self._guide_trace)
            trace = poutine.trace(replayed).get_trace()
        self._guide_trace.compute_log_prob()
        self._simulated = {
            name: site
            for name, site in trace.nodes.items()
            if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
        }
        self._max_plate_nesting = max_plate_nesting

    @torch.no_grad()
    def sample(self, model: Any, num_samples: int, stable: bool = True) -> dict[str, Tensor]:
        """Return draws by site, each ``(num_samples, ...)``, distributed as under ``model``.

        :param model: a model without arguments, with the guide's latent sites.
        :param num_samples: number of draws.
        :param stable: take the same random numbers each time, so that pictures do not flicker.
        """
        if num_samples > self.num_guide_samples:
            raise ValueError(f"cannot pick {num_samples} of {self.num_guide_samples} draws")
        with poutine.block():
            replayed = poutine.replay(self._plate(model), trace=self._guide_trace)
            trace = poutine.trace(replayed).get_trace()
        trace.compute_log_prob()
        weights = per_particle(trace, _log_prob) - per_particle(self._guide_trace, _log_prob)
        weights = weights.expand(self.num_guide_samples)
        if stable:
            if not hasattr(self, "_noise"):
                self._noise = -(-torch.rand(self.num_guide_samples).clamp(min=1e-20).log()).log()
            index = (weights + self._noise).topk(num_samples).indices
        else:
            index = Categorical(logits=weights).sample((num_samples,))
        return {name: self._rows(site)[index] for name, site in self._simulated.items()}

    def _rows(self, site: Any) -> Tensor:
        value = site["value"]
        frame = next(frame for frame in site["cond_indep_stack"] if frame.name == PARTICLES)
        dim = value.ndim + frame.dim - site["fn"].event_dim
        return value if dim == 0 else value.expand((self.num_guide_samples, *value.shape))
