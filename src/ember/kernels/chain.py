"""Run one chain: transitions with adaptation through warmup, then with everything fixed.

Every draw's random numbers come from (chain's key, number of the draw) alone, so that a run in chunks gives
the same draws as a run at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ember.engine import random
from ember.engine.control import cond, scan
from ember.kernels import density as target
from ember.kernels import step_size as step_sizes
from ember.kernels import warmup
from ember.kernels.density import Density
from ember.kernels.metric import Metric
from ember.kernels.schedule import Schedule
from ember.kernels.warmup import Adaptation

# Streams of a chain's key beside its draws 0, 1, 2, …, and of a draw's key beside those of its transition.
_FIRST_STEP_SIZE = -1
_RESTART = -1


class Transition(Protocol):
    """A Hamiltonian kernel's ``step``, with its options bound (``functools.partial``)."""

    def __call__(
        self, key: Tensor, density: Density, state: target.State, step_size: Tensor, metric: Metric, /
    ) -> tuple[target.State, Any]:
        """Make a transition; the info has a field ``acceptance``."""


class ChainState(NamedTuple):
    """Everything that a chain needs to go on."""

    key: Tensor  # int64 [2]
    draw: Tensor  # int64, number of the next draw, warmup included
    state: target.State
    step_size: Tensor
    metric: Metric
    adaptation: warmup.State


class Draw(NamedTuple):
    """What is kept of a draw; with a leading dimension, of many."""

    position: Tensor  # [D]
    info: Any  # the kernel's Info


def init(
    key: Tensor,
    density: Density,
    position: Tensor,
    adaptation: Adaptation,
    step_size: float | Tensor = 1.0,
    metric: Metric | None = None,
) -> ChainState:
    """Start a chain.

    :param key: the chain's own key.
    :param density: log density with gradient.
    :param position: where to start, ``[D]``, with finite log density and gradient.
    :param adaptation: what warmup will adapt; with ``adapt_step_size`` a first step size is searched for.
    :param step_size: where that search starts, or the step size to keep.
    :param metric: first inverse mass matrix, of the form that the adaptation names; by default its scheme's.
    """
    state = target.init(density, position)
    metric = warmup.initial_metric(adaptation, state) if metric is None else metric
    size = torch.as_tensor(step_size, dtype=position.dtype)
    if adaptation.adapt_step_size and adaptation.search_step_size:
        first_key = random.fold_in(key, _FIRST_STEP_SIZE)
        found = step_sizes.heuristic(first_key, density, state, size, metric)
        size = found.clamp(min=adaptation.min_step_size)
    draw = torch.zeros((), dtype=torch.int64)
    return ChainState(key, draw, state, size, metric, warmup.init(adaptation, position, size))


def sample_step(density: Density, transition: Transition, chain: ChainState) -> tuple[ChainState, Draw]:
    """Make one draw with step size and metric fixed."""
    key = random.fold_in(chain.key, chain.draw)
    state, info = transition(key, density, chain.state, chain.step_size, chain.metric)
    return chain._replace(draw=chain.draw + 1, state=state), Draw(state.position, info)


def warmup_step(
    density: Density, transition: Transition, adaptation: Adaptation, chain: ChainState, row: Schedule
) -> tuple[ChainState, Draw]:
    """Make one draw of warmup and adapt, as the schedule's row says."""
    moved, draw = sample_step(density, transition, chain)
    return _adapted(density, adaptation, moved, draw, row), draw


def _adapted(
    density: Density, adaptation: Adaptation, chain: ChainState, draw: Draw, row: Schedule
) -> ChainState:
    """Take the draw that brought the chain here into account."""
    key = random.fold_in(random.fold_in(chain.key, chain.draw - 1), _RESTART)
    adapted, step_size, metric = warmup.update(
        key,
        density,
        adaptation,
        chain.adaptation,
        chain.state,
        draw.info.acceptance,
        chain.step_size,
        chain.metric,
        row,
    )
    return chain._replace(step_size=step_size, metric=metric, adaptation=adapted)


def run_warmup(
    density: Density, transition: Transition, adaptation: Adaptation, chain: ChainState, schedule: Schedule
) -> tuple[ChainState, Draw]:
    """Make the warmup draws of the schedule's rows, at least one.

    :returns: the chain, and the draws with a leading dimension.
    """

    def step(carry: ChainState, row: Schedule) -> tuple[ChainState, Draw]:
        return warmup_step(density, transition, adaptation, carry, row)

    return scan(step, chain, schedule)


def run_sampling(
    density: Density, transition: Transition, chain: ChainState, num_draws: int
) -> tuple[ChainState, Draw]:
    """Make ``num_draws`` draws, at least one, with step size and metric fixed.

    :returns: the chain, and the draws with a leading dimension.
    """

    # The carry holds only what changes, so that a captured loop does not copy the metric.
    def step(carry: tuple[Tensor, target.State], _: None) -> tuple[tuple[Tensor, target.State], Draw]:
        following, draw = sample_step(density, transition, chain._replace(draw=carry[0], state=carry[1]))
        return (following.draw, following.state), draw

    (number, state), draws = scan(step, (chain.draw, chain.state), length=num_draws)
    return chain._replace(draw=number, state=state), draws


def run_chunk(
    density: Density,
    transition: Transition,
    adaptation: Adaptation,
    chain: ChainState,
    schedule: Schedule,
    warming: Tensor,
) -> tuple[ChainState, Draw]:
    """Make a draw for each of the schedule's rows, in warmup or after it: one program serves both.

    :param warming: bool scalar; False leaves step size and metric fixed, whatever the rows say.
    :returns: the chain, and the draws with a leading dimension.
    """

    def step(carry: ChainState, row: Schedule) -> tuple[ChainState, Draw]:
        moved, draw = sample_step(density, transition, carry)
        following = cond(warming, lambda: _adapted(density, adaptation, moved, draw, row), lambda: moved)
        return following, draw

    return scan(step, chain, schedule)
