"""Turn weighted draws into draws of equal weight by a Metropolis–Hastings walk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ember.infer.prediction.weighed import WeighedPredictiveResults


class MHResampler:
    """Independence Metropolis–Hastings, many walks at once, on weighted draws (Tierney 1994, section 2.3.3).

    Each call takes fresh weighted draws and, walk by walk, moves to the new draw with probability
    ``min(1, w_new / w_old)``; the first call starts the walks. After some calls the draws follow the target.

    :param sampler: a callable that returns :class:`~ember.infer.prediction.weighed.WeighedPredictiveResults`,
        the same number of draws each time, such as a ``WeighedPredictive`` with its arguments bound.
    :param source_samples_slice: of the calls' weighted draws, which to keep (by default none).
    :param stored_samples_slice: of the calls' results, which to keep (by default none).
    """

    def __init__(
        self,
        sampler: Callable[..., WeighedPredictiveResults],
        source_samples_slice: slice = slice(0),
        stored_samples_slice: slice = slice(0),
    ) -> None:
        self.sampler = sampler
        self.source_samples_slice = source_samples_slice
        self.stored_samples_slice = stored_samples_slice
        self.samples: WeighedPredictiveResults | None = None
        self.transition_count = torch.tensor(0)
        self._source: list[WeighedPredictiveResults] = []
        self._stored: list[WeighedPredictiveResults] = []

    def __call__(self, *args: Any, **kwargs: Any) -> WeighedPredictiveResults:
        """Take one step of each walk and return where they are; arguments are the sampler's."""
        with torch.no_grad():
            proposed = self.sampler(*args, **kwargs)
            self._source = [*self._source, proposed][self.source_samples_slice]
            if self.samples is None:
                self.samples = proposed
            else:
                log_ratio = proposed.log_weights - self.samples.log_weights
                accepted = torch.rand_like(log_ratio).log() < log_ratio
                self.transition_count = self.transition_count + accepted.sum()
                self.samples = _chosen(accepted, proposed, self.samples)
            self._stored = [*self._stored, self.samples][self.stored_samples_slice]
            return self.samples

    def get_source_samples(self) -> WeighedPredictiveResults:
        """Return the kept weighted draws, with a leading dim of calls.

        :raises ValueError: if none were kept.
        """
        return _stacked(self._source, "source")

    def get_samples(self) -> WeighedPredictiveResults | None:
        """Return where the walks are now, or None before the first call."""
        return self.samples

    def get_stored_samples(self) -> WeighedPredictiveResults:
        """Return the kept results, with a leading dim of calls.

        :raises ValueError: if none were kept.
        """
        return _stacked(self._stored, "stored")

    def get_total_transition_count(self) -> Tensor:
        """Return the number of moves of all walks in all calls."""
        return self.transition_count


def _chosen(
    accepted: Tensor, new: WeighedPredictiveResults, old: WeighedPredictiveResults
) -> WeighedPredictiveResults:
    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(accepted.reshape(accepted.shape + (1,) * (a.ndim - 1)), a, b)

    samples = {name: choose(value, old.samples[name]) for name, value in new.samples.items()}
    return WeighedPredictiveResults(samples, *map(choose, new[1:], old[1:]))


def _stacked(kept: list[WeighedPredictiveResults], what: str) -> WeighedPredictiveResults:
    if not kept:
        raise ValueError(f"MHResampler kept no {what} samples; give {what}_samples_slice=slice(None)")
    samples = {name: torch.stack([each.samples[name] for each in kept]) for name in kept[0].samples}
    weights = [torch.stack(each) for each in zip(*(draws[1:] for draws in kept), strict=True)]
    return WeighedPredictiveResults(samples, *weights)
