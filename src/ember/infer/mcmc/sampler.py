"""Advance one chain by some draws: what the loop asks of kernels, and the answer of Hamiltonian ones."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ember.engine import random
from ember.infer.mcmc.store import statistics_of
from ember.kernels import chain as chains
from ember.kernels.chain import Transition
from ember.kernels.density import Density
from ember.kernels.schedule import Schedule
from ember.kernels.warmup import Adaptation

Draws = tuple[Tensor, dict[str, Tensor]]  # positions [n, D], statistics [n]


class Sampler(Protocol):
    """Pure functions of a chain's state, whatever executes them."""

    chunk: int
    """Most draws to ask for at once: after each chunk the draws are stored and the bar moves."""

    def start(self, index: int) -> Any:
        """Return the first state of chain ``index``."""

    def warmup(self, state: Any, start: int, stop: int) -> tuple[Any, Draws]:
        """Make the warmup draws ``start`` to ``stop`` − 1."""

    def sample(self, state: Any, num_draws: int) -> tuple[Any, Draws]:
        """Make draws with everything fixed."""


class HamiltonianSampler:
    """Run HMC and NUTS eagerly.

    Chain c draws from the stream of ``fold_in(key, c)`` alone, so that its draws depend neither on the other
    chains nor on the size of chunks.

    :param density: log density with gradient.
    :param transition: a kernel's ``step`` with its options bound.
    :param adaptation: what warmup adapts.
    :param num_warmup: number of warmup draws.
    :param key: key of the run.
    :param starts: first positions, ``[chains, D]``.
    :param step_size: first step size.
    """

    chunk = 1

    def __init__(
        self,
        density: Density,
        transition: Transition,
        adaptation: Adaptation,
        num_warmup: int,
        key: Tensor,
        starts: Tensor,
        step_size: float,
    ) -> None:
        self._density = density
        self._transition = transition
        self._adaptation = adaptation
        self._schedule: Schedule = adaptation.schedule(num_warmup)
        self._key = key
        self._starts = starts
        self._step_size = step_size
        self._adapts_step_size = adaptation.adapt_step_size and num_warmup > 0

    def start(self, index: int) -> chains.ChainState:
        """Evaluate the density at the first position, and look for a first step size if it is adapted."""
        adaptation = self._adaptation
        if adaptation.adapt_step_size and not self._adapts_step_size:
            # Nobody would correct a first guess, so the user's step size holds.
            adaptation = Adaptation(metric=adaptation.metric, adapt_step_size=False, adapt_metric=False)
        with torch.no_grad():
            return chains.init(
                random.fold_in(self._key, index),
                self._density,
                self._starts[index],
                adaptation,
                step_size=self._step_size,
            )

    def warmup(self, state: chains.ChainState, start: int, stop: int) -> tuple[chains.ChainState, Draws]:
        """Make the warmup draws ``start`` to ``stop`` − 1."""
        rows = self._schedule.rows(start, stop)
        with torch.no_grad():
            state, draws = chains.run_warmup(self._density, self._transition, self._adaptation, state, rows)
        return state, (draws.position, statistics_of(draws.info))

    def sample(self, state: chains.ChainState, num_draws: int) -> tuple[chains.ChainState, Draws]:
        """Make draws with step size and metric fixed."""
        with torch.no_grad():
            state, draws = chains.run_sampling(self._density, self._transition, state, num_draws)
        return state, (draws.position, statistics_of(draws.info))
