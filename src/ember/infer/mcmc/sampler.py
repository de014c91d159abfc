"""Advance one chain by some draws: what the loop asks of kernels, and the answer of Hamiltonian ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ember.engine import random
from ember.infer.mcmc.store import statistics_of
from ember.kernels import chain as chains
from ember.kernels.chain import Transition
from ember.kernels.schedule import Schedule
from ember.kernels.warmup import Adaptation

Draws = tuple[Tensor, dict[str, Tensor]]  # positions [n, D], statistics [n]


class Sampler(Protocol):
    """What advances chains, whatever executes it. Chains are numbered from 0."""

    chunk: int
    """Most draws to ask for at once: after each chunk the draws are stored and the bar moves."""

    def start(self, index: int) -> Any:
        """Return the first state of chain ``index``."""

    def warmup(self, state: Any, index: int, start: int, stop: int) -> tuple[Any, Draws]:
        """Make the warmup draws ``start`` to ``stop`` − 1 of chain ``index``."""

    def sample(self, state: Any, index: int, num_draws: int) -> tuple[Any, Draws]:
        """Make draws of chain ``index`` with everything fixed."""


class ParallelSampler(Sampler, Protocol):
    """A sampler whose chains can run in threads at the same time."""

    def interrupt(self) -> None:
        """Let all chains stop after their present draw, and return what they have; from any thread."""

    def progress(self, index: int) -> int:
        """Return the finished draws of the chunk that chain ``index`` is at; from any thread."""


@dataclass(frozen=True)
class Plan:
    """A run of a Hamiltonian kernel.

    Chain c draws from the stream of ``fold_in(key, c)`` alone, so that its draws depend neither on the other
    chains nor on the size of chunks.
    """

    density: Any  # value_and_gradient(z, inputs) and inputs
    transition: Transition  # a kernel's ``step`` with its options bound
    adaptation: Adaptation  # what warmup adapts
    num_warmup: int
    key: Tensor  # of the run
    starts: Tensor  # first positions, [chains, D]
    step_size: float  # to begin with
    starting: Any = None  # the same as ``density``, quicker where chains start; by default itself

    @cached_property
    def schedule(self) -> Schedule:
        """What warmup does after each draw."""
        return self.adaptation.schedule(self.num_warmup)


class HamiltonianSampler:
    """Run HMC and NUTS eagerly."""

    chunk = 1

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._density = plan.density
        self._transition = plan.transition
        self._adaptation = plan.adaptation

    def start(self, index: int) -> chains.ChainState:
        """Evaluate the density at the first position, and look for a first step size if it is adapted."""
        adaptation = self._adaptation
        if adaptation.adapt_step_size and not self._plan.num_warmup:
            # Nobody would correct a first guess, so the user's step size holds.
            adaptation = replace(adaptation, adapt_step_size=False, adapt_metric=False)
        with torch.no_grad():
            return chains.init(
                random.fold_in(self._plan.key, index),
                self._plan.starting or self._density,
                self._plan.starts[index],
                adaptation,
                step_size=self._plan.step_size,
            )

    def warmup(
        self, state: chains.ChainState, index: int, start: int, stop: int
    ) -> tuple[chains.ChainState, Draws]:
        """Make the warmup draws ``start`` to ``stop`` − 1."""
        rows = self._plan.schedule.rows(start, stop)
        with torch.no_grad():
            state, draws = chains.run_warmup(self._density, self._transition, self._adaptation, state, rows)
        return state, (draws.position, statistics_of(draws.info))

    def sample(self, state: chains.ChainState, index: int, num_draws: int) -> tuple[chains.ChainState, Draws]:
        """Make draws with step size and metric fixed."""
        with torch.no_grad():
            state, draws = chains.run_sampling(self._density, self._transition, state, num_draws)
        return state, (draws.position, statistics_of(draws.info))
