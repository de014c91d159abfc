"""Adapt step size and metric during warmup, as a state machine that a schedule's rows drive.

Three schemes of one machine: Stan's windows of variance estimates, the overlapping windows of
Fisher-divergence estimates from draws and gradients, and a mixture of both (see ``schedule``, ``variance``
and ``fisher``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from ember.engine.control import cond
from ember.kernels import density as target
from ember.kernels import fisher, history, schedule, variance
from ember.kernels import metric as metrics
from ember.kernels import step_size as step_sizes
from ember.kernels.density import Density
from ember.kernels.history import History
from ember.kernels.metric import Metric
from ember.kernels.schedule import Schedule
from ember.kernels.step_size import DualAveraging
from ember.kernels.variance import Moments


class DrawsAndGradients(NamedTuple):
    """Moments of both."""

    draws: Moments
    gradients: Moments


Estimator: TypeAlias = Moments | DrawsAndGradients | History


MetricName: TypeAlias = Literal["diagonal", "dense", "low_rank"]
SchemeName: TypeAlias = Literal["mixed", "fisher", "stan"]


@dataclass(frozen=True)
class Adaptation:
    """Choose what warmup adapts, and how; fixed for a run.

    :param metric: form of the inverse mass matrix.
    :param scheme: ``"fisher"`` estimates from draws and gradients in overlapping windows, ``"stan"``
        from draws in windows that double. ``"mixed"`` begins like the first; once a window holds enough
        draws it estimates a diagonal from those alone, and it adapts the step size anew to the last metric.
        In a funnel the gradients of the neck rule Fisher's estimates, which then fit the rest badly.
    :param target_acceptance: mean acceptance statistic to reach, between 0 and 1.
    :param adapt_step_size: whether the step size is searched for and adapted.
    :param search_step_size: whether there is that search, which takes leapfrog steps, before adaptation.
    :param adapt_metric: whether the metric is adapted.
    :param blocks: for a dense metric, groups of coordinates that get a dense block each.
    :param rank: for a low-rank metric, the number of directions beside the diagonal.
    :param min_step_size: the step size never falls below.
    :raises ValueError: for values that do not fit together.
    """

    metric: MetricName = "diagonal"
    scheme: SchemeName = "fisher"
    target_acceptance: float = 0.8
    adapt_step_size: bool = True
    search_step_size: bool = True
    adapt_metric: bool = True
    blocks: tuple[tuple[int, ...], ...] | None = None
    rank: int = 20
    min_step_size: float = 1e-10

    def __post_init__(self) -> None:
        if self.metric not in ("diagonal", "dense", "low_rank"):
            raise ValueError(f"metric must be 'diagonal', 'dense' or 'low_rank', got {self.metric!r}")
        if self.scheme not in ("mixed", "fisher", "stan"):
            raise ValueError(f"scheme must be 'mixed', 'fisher' or 'stan', got {self.scheme!r}")
        if self.metric == "low_rank" and self.scheme == "stan" and self.adapt_metric:
            raise ValueError("a low-rank metric needs gradients to adapt: use scheme='fisher'")
        if not 0.0 < self.target_acceptance < 1.0:
            raise ValueError(f"target_acceptance must lie between 0 and 1, got {self.target_acceptance}")
        if self.blocks is not None and self.metric != "dense":
            raise ValueError(f"blocks need metric='dense', got {self.metric!r}")
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")

    @property
    def restarts(self) -> bool:
        """Whether the search for a step size begins anew with each window, as only Stan's scheme has it."""
        return self.scheme == "stan" and self.adapt_metric

    def schedule(self, num_warmup: int) -> Schedule:
        """Tabulate a warmup of ``num_warmup`` draws."""
        if not self.adapt_metric:
            return schedule.step_size_only(num_warmup)
        if self.scheme == "stan":
            return schedule.stan(num_warmup)
        # Each estimate that is not diagonal costs an eigen-decomposition.
        early, late = (1, 1) if self.metric == "diagonal" else (10, 40)
        make = schedule.mixed if self.scheme == "mixed" else schedule.fisher
        return make(num_warmup, early_update_interval=early, update_interval=late)


class State(NamedTuple):
    """What adaptation needs to remember."""

    averaging: DualAveraging
    foreground: Estimator
    background: Estimator


# Twice the longest window between switches that ``schedule.fisher`` makes.
_HISTORY = 160
# Draws that say more of a variance by themselves than with their gradients.
_ENOUGH = 50


def init(adaptation: Adaptation, position: Tensor, step_size: Tensor) -> State:
    """Start with no draws seen.

    :param position: gives size and dtype, ``[D]``.
    :param step_size: first step size, positive scalar.
    """
    empty = _empty(adaptation, position)
    return State(step_sizes.init(step_size), empty, empty)


def initial_metric(adaptation: Adaptation, state: target.State) -> Metric:
    """Return the metric to start with: the identity for Stan's scheme, else from the gradient."""
    by_gradient = adaptation.scheme != "stan" and adaptation.adapt_metric
    variances = fisher.from_gradient(state.gradient) if by_gradient else torch.ones_like(state.gradient)
    if adaptation.metric == "diagonal":
        return metrics.diagonal(variances)
    if adaptation.metric == "dense":
        return metrics.dense(torch.diag(variances))
    rank = min(adaptation.rank, variances.shape[0])
    return metrics.low_rank(
        torch.sqrt(variances), variances.new_zeros((variances.shape[0], rank)), variances.new_ones((rank,))
    )


def update(
    key: Tensor,
    density: Density,
    adaptation: Adaptation,
    state: State,
    current: target.State,
    acceptance: Tensor,
    step_size: Tensor,
    metric: Metric,
    row: Schedule,
) -> tuple[State, Tensor, Metric]:
    """Take one warmup draw into account; return the new state, step size and metric.

    :param key: used where the search for a step size restarts.
    :param current: the draw with its gradient.
    :param acceptance: acceptance statistic of its transition.
    :param row: what the schedule says for this draw.
    """
    averaging, foreground, background = state
    if adaptation.adapt_metric:
        foreground = cond(row.collect, lambda: _add(foreground, current), lambda: foreground)
        background = cond(row.collect_background, lambda: _add(background, current), lambda: background)
        metric = cond(row.update, lambda: _estimate(adaptation, foreground, metric), lambda: metric)
        foreground, background = cond(
            row.switch,
            lambda: (background, _empty(adaptation, current.position)),
            lambda: (foreground, background),
        )
    if adaptation.adapt_step_size:
        averaging = step_sizes.update(averaging, acceptance, adaptation.target_acceptance)
        step_size = torch.exp(torch.where(row.finish, averaging.log_average, averaging.log_step_size))
        if adaptation.restarts:
            averaging, step_size = cond(
                row.restart,
                lambda: _restart(key, density, current, step_size, metric),
                lambda: (averaging, step_size),
            )
        elif adaptation.scheme == "mixed":
            anew = step_sizes.init(step_size)
            averaging = DualAveraging(
                *(torch.where(row.restart, *pair) for pair in zip(anew, averaging, strict=True))
            )
        step_size = step_size.clamp(min=adaptation.min_step_size)
    return State(averaging, foreground, background), step_size, metric


def _restart(
    key: Tensor, density: Density, current: target.State, step_size: Tensor, metric: Metric
) -> tuple[DualAveraging, Tensor]:
    found = step_sizes.heuristic(key, density, current, step_size, metric)
    return step_sizes.init(found), found


def _empty(adaptation: Adaptation, like: Tensor) -> Estimator:
    if adaptation.metric == "low_rank":
        return history.init(like, _HISTORY)
    moments = variance.init(like, dense=adaptation.metric == "dense")
    return moments if adaptation.scheme == "stan" else DrawsAndGradients(moments, moments)


def _add(estimator: Estimator, current: target.State) -> Estimator:
    if isinstance(estimator, History):
        return history.update(estimator, current.position, current.gradient)
    if isinstance(estimator, DrawsAndGradients):
        return DrawsAndGradients(
            variance.update(estimator.draws, current.position),
            variance.update(estimator.gradients, current.gradient),
        )
    return variance.update(estimator, current.position)


def _estimate(adaptation: Adaptation, estimator: Estimator, previous: Metric) -> Metric:
    if isinstance(estimator, History):
        scale = previous.scale  # type: ignore[attr-defined]
        return fisher.low_rank(estimator, min(adaptation.rank, scale.shape[0]), scale * scale)
    if isinstance(previous, metrics.Diagonal):
        if isinstance(estimator, DrawsAndGradients):
            best = fisher.diagonal(*estimator, fallback=previous.variance)
            if adaptation.scheme == "mixed":
                best = torch.where(estimator.draws.size >= _ENOUGH, variance.shrunk(estimator.draws), best)
            return metrics.diagonal(best)
        return metrics.diagonal(variance.shrunk(estimator))
    if not isinstance(previous, metrics.Dense):
        raise TypeError(f"a {adaptation.metric} metric cannot follow a {type(previous).__name__}")
    variances = previous.covariance.diagonal()
    mask = None
    if adaptation.blocks is not None:
        mask = metrics.block_mask(variances.shape[0], adaptation.blocks)
    if isinstance(estimator, DrawsAndGradients):
        covariance = fisher.dense(*estimator, fallback=variances, mask=mask)
    else:
        covariance = variance.shrunk(estimator) if mask is None else variance.shrunk(estimator) * mask
    return metrics.dense(covariance, fallback=previous)
