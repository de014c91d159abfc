"""Define the times at which lineages of a sample coalesce, backwards in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import message
from . import constraints
from .parameters import one, table
from .torch_distribution import TorchDistribution

_EMPTY = torch.Size()


class _Intervals(NamedTuple):
    """The time between events, from the latest back to the earliest."""

    start: Tensor  # earlier end
    stop: Tensor  # later end
    pairs: Tensor  # pairs of lineages in between
    coalesces: Tensor  # whether a pair coalesces at the earlier end


def _intervals(leaf_times: Tensor, coal_times: Tensor) -> _Intervals:
    batch = torch.broadcast_shapes(leaf_times.shape[:-1], coal_times.shape[:-1])
    leaf_times = leaf_times.expand(batch + leaf_times.shape[-1:])
    coal_times = coal_times.expand(batch + coal_times.shape[-1:])
    change = torch.cat([torch.ones_like(leaf_times), -torch.ones_like(coal_times)], -1)
    times, order = torch.cat([leaf_times, coal_times], -1).sort(dim=-1, descending=True, stable=True)
    change = change.gather(-1, order)
    lineages = change.cumsum(-1)[..., :-1]
    pairs = 0.5 * lineages * (lineages - 1.0)
    return _Intervals(times[..., 1:], times[..., :-1], pairs, change[..., 1:] < 0)


class _CoalescentTimes(constraints.Constraint):
    """Hold increasing times at each of which at least two lineages are there."""

    event_dim = 1

    def __init__(self, leaf_times: Tensor) -> None:
        self.leaf_times = leaf_times

    def check(self, value: Tensor) -> Tensor:
        ordered = (value[..., 1:] >= value[..., :-1]).all(-1)
        intervals = _intervals(self.leaf_times, value)
        return ordered & ((intervals.pairs > 0) | ~intervals.coalesces).all(-1)


class CoalescentTimes(TorchDistribution):
    """Kingman's coalescent: the times of the N - 1 events that join N leaves, in increasing order.

    :param leaf_times: times at which lineages were sampled, ``batch_shape + (N,)``.
    :param rate: rate at which each pair of lineages coalesces, positive, of the batch shape.
    """

    arg_constraints = table(leaf_times=constraints.real, rate=constraints.positive)

    def __init__(
        self, leaf_times: Tensor, rate: Tensor | float = 1.0, *, validate_args: bool | None = None
    ) -> None:
        rate = one(rate)
        batch = torch.broadcast_shapes(leaf_times.shape[:-1], rate.shape)
        self.leaf_times = leaf_times.expand(batch + leaf_times.shape[-1:])
        self.rate = rate.expand(batch)
        TorchDistribution.__init__(self, batch, _joins(leaf_times), validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> Any:
        return _CoalescentTimes(self.leaf_times)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        intervals = _intervals(self.leaf_times, value)
        waited = (intervals.pairs * (intervals.stop - intervals.start)).sum(-1)
        joined = torch.where(intervals.coalesces, intervals.pairs, 1.0).log().sum(-1)
        return joined + self._event_shape[0] * self.rate.log() - self.rate * waited

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Go back in time: at every step either a pair coalesces, or a further leaf appears."""
        shape = torch.Size(sample_shape) + self._batch_shape
        count = self.leaf_times.shape[-1]
        leaves = self.leaf_times.sort(dim=-1, descending=True)[0].expand((*shape, count))
        leaves = torch.nn.functional.pad(leaves, (0, 1), value=-torch.inf)
        time, seen = leaves[..., 0], torch.ones(shape, dtype=torch.long)
        joins = torch.zeros(shape, dtype=torch.long)
        result = torch.zeros((*shape, count), dtype=leaves.dtype)
        for _ in range(2 * (count - 1)):
            lineages = (seen - joins).to(leaves.dtype)
            pairs = 0.5 * lineages * (lineages - 1.0)
            candidate = time - torch.empty_like(time).exponential_() / (self.rate * pairs)
            leaf = leaves.gather(-1, seen.unsqueeze(-1)).squeeze(-1)
            coalesces = candidate > leaf
            time = torch.where(coalesces, candidate, leaf)
            # What is no event is written to the spare last place.
            place = torch.where(coalesces, count - 2 - joins, count - 1)
            result = result.scatter(-1, place.unsqueeze(-1), time.unsqueeze(-1))
            joins, seen = joins + coalesces, seen + ~coalesces
        return result[..., :-1]


class CoalescentTimesWithRate(TorchDistribution):
    """The coalescent with a rate that is constant in each of the time steps [0, 1), [1, 2), …

    Beyond the first and last step their rates go on. It can be scored, not drawn from.

    :param leaf_times: times at which lineages were sampled, ``batch_shape + (N,)``.
    :param rate_grid: rates at which each pair of lineages coalesces, positive, ``batch_shape + (duration,)``.
    """

    arg_constraints = table(leaf_times=constraints.real, rate_grid=constraints.positive)

    def __init__(self, leaf_times: Tensor, rate_grid: Tensor, *, validate_args: bool | None = None) -> None:
        batch = torch.broadcast_shapes(leaf_times.shape[:-1], rate_grid.shape[:-1])
        self.leaf_times = leaf_times.expand(batch + leaf_times.shape[-1:])
        self.rate_grid = rate_grid.expand(batch + rate_grid.shape[-1:])
        TorchDistribution.__init__(self, batch, _joins(leaf_times), validate_args)

    @property
    def duration(self) -> int:
        """Number of time steps."""
        return self.rate_grid.shape[-1]

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> Any:
        return _CoalescentTimes(self.leaf_times)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        shape = torch.Size(batch_shape)
        return type(self)(
            self.leaf_times.expand(shape + self.leaf_times.shape[-1:]),
            self.rate_grid.expand(shape + self.rate_grid.shape[-1:]),
            validate_args=self.__dict__.get("_validate_args"),
        )

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return CoalescentRateLikelihood(self.leaf_times, value, self.duration)(self.rate_grid).sum(-1)


class CoalescentRateLikelihood:
    """The likelihood of rates in time steps, given the leaves and coalescences of a phylogeny.

    Each step contributes a term of its own: long trees can be subsampled in time.

    :param leaf_times: ``batch + (N,)``.
    :param coal_times: ``batch + (N - 1,)``.
    :param duration: number of time steps.
    :raises ValueError: if there is not one coalescence less than there are leaves.
    """

    def __init__(
        self, leaf_times: Tensor, coal_times: Tensor, duration: int, *, validate_args: bool | None = None
    ) -> None:
        if coal_times.shape[-1:] != _joins(leaf_times) or duration < 1:
            raise ValueError(
                message(
                    "N leaves are joined by N - 1 coalescences.",
                    expected="leaf_times (..., N), coal_times (..., N - 1), a positive duration",
                    actual=f"{tuple(leaf_times.shape)}, {tuple(coal_times.shape)}, {duration}",
                )
            )
        if validate_args and not bool(_CoalescentTimes(leaf_times).check(coal_times).all()):
            raise ValueError("coal_times must increase, with at least two lineages at each of them")
        start, stop, pairs, coalesces = _intervals(leaf_times, coal_times)
        low = torch.arange(duration, dtype=start.dtype, device=start.device).unsqueeze(-1)
        high = low + 1.0
        low[0], high[-1] = -torch.inf, torch.inf
        start, stop, pairs = start.unsqueeze(-2), stop.unsqueeze(-2), pairs.unsqueeze(-2)
        overlap = (torch.minimum(stop, high) - torch.maximum(start, low)).clamp(min=0.0)
        inside = (start >= low) & (start < high) & coalesces.unsqueeze(-2)
        self._waited = (pairs * overlap).sum(-1)
        self._count = inside.to(start.dtype).sum(-1)
        self._joined = torch.where(inside, pairs, 1.0).log().sum(-1)

    def __call__(self, rate_grid: Tensor, t: Any = slice(None)) -> Tensor:
        """Return the log likelihood of each time step.

        :param rate_grid: rates, ``batch + (duration,)`` or the part of it that ``t`` selects.
        :param t: an int, slice or tensor of indices of time steps.
        """
        count, waited, joined = (each[..., t] for each in (self._count, self._waited, self._joined))
        return joined + count * rate_grid.log() - waited * rate_grid


def _joins(leaf_times: Tensor) -> torch.Size:
    """Return the event shape of the coalescences.

    :raises ValueError: for less than two leaves.
    """
    if not leaf_times.dim() or leaf_times.shape[-1] < 2:
        raise ValueError(f"the coalescent takes two leaves or more, got shape {tuple(leaf_times.shape)}")
    return torch.Size((leaf_times.shape[-1] - 1,))
