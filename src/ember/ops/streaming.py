"""Accumulate statistics of draws that come one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from ember.errors import message


class StreamingStats(ABC):
    """Base of statistics that are updated draw by draw, and merged with those of other draws."""

    @abstractmethod
    def update(self, sample: Any) -> None:
        """Take in a draw."""

    @abstractmethod
    def merge(self, other: Any) -> Any:
        """Return the statistics of all draws of both."""

    @abstractmethod
    def get(self) -> Any:
        """Return the statistics as a dict."""

    def _check(self, other: Any) -> None:
        if type(other) is not type(self):
            raise ValueError(
                message(
                    "Statistics of different kinds cannot be merged.",
                    expected=type(self).__name__,
                    actual=type(other).__name__,
                )
            )


class CountStats(StreamingStats):
    """The number of draws."""

    def __init__(self) -> None:
        self.count = 0

    def update(self, sample: Any) -> None:
        self.count += 1

    def merge(self, other: CountStats) -> CountStats:
        self._check(other)
        result = CountStats()
        result.count = self.count + other.count
        return result

    def get(self) -> dict[str, int]:
        return {"count": self.count}


class CountMeanVarianceStats(StreamingStats):
    """The number of draws, their mean and their variance (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0
        self._squares: Any = 0

    def update(self, sample: Tensor) -> None:
        self.count += 1
        sample = sample.detach()
        before = sample - self.mean
        self.mean = self.mean + before / self.count
        self._squares = self._squares + before * (sample - self.mean)

    def merge(self, other: CountMeanVarianceStats) -> CountMeanVarianceStats:
        self._check(other)
        result = CountMeanVarianceStats()
        result.count = self.count + other.count
        share = other.count / max(result.count, 1)
        apart = other.mean - self.mean
        result.mean = self.mean + share * apart
        result._squares = self._squares + other._squares + apart * apart * (share * self.count)
        return result

    def get(self) -> dict[str, Any]:
        """Return count, mean and (after two draws) variance."""
        result: dict[str, Any] = {"count": self.count}
        if self.count > 0:
            result["mean"] = self.mean
        if self.count > 1:
            result["variance"] = self._squares / (self.count - 1)
        return result


class CountMeanStats(StreamingStats):
    """The number of draws and their mean."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0

    def update(self, sample: Tensor) -> None:
        self.count += 1
        self.mean = self.mean + (sample.detach() - self.mean) / self.count

    def merge(self, other: CountMeanStats) -> CountMeanStats:
        self._check(other)
        result = CountMeanStats()
        result.count = self.count + other.count
        result.mean = self.mean + (other.mean - self.mean) * (other.count / max(result.count, 1))
        return result

    def get(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean} if self.count else {"count": 0}


class StackStats(StreamingStats):
    """All draws, stacked along a new leading dim."""

    def __init__(self) -> None:
        self._samples: list[Tensor] = []

    def update(self, sample: Tensor) -> None:
        self._samples.append(sample)

    def merge(self, other: StackStats) -> StackStats:
        self._check(other)
        result = StackStats()
        result._samples = self._samples + other._samples
        return result

    def get(self) -> dict[str, Any]:
        count = len(self._samples)
        return {"count": count, "samples": torch.stack(self._samples)} if count else {"count": 0}


class StatsOfDict(StreamingStats):
    """Statistics of each entry of draws that are dicts.

    :param types: statistics by key.
    :param default: statistics of other keys.
    """

    def __init__(
        self,
        types: Mapping[Hashable, Callable[[], StreamingStats]] | None = None,
        default: Callable[[], StreamingStats] = CountStats,
    ) -> None:
        self._types = dict(types or {})
        self._default = default
        self._stats: dict[Hashable, StreamingStats] = {key: make() for key, make in self._types.items()}

    def update(self, sample: Mapping[Hashable, Any]) -> None:
        for key, value in sample.items():
            if key not in self._stats:
                self._stats[key] = self._default()
            self._stats[key].update(value)

    def merge(self, other: StatsOfDict) -> StatsOfDict:
        self._check(other)
        result = StatsOfDict(self._types, self._default)
        for key in {**self._stats, **other._stats}:
            parts = [each._stats[key] for each in (self, other) if key in each._stats]
            result._stats[key] = parts[0] if len(parts) == 1 else parts[0].merge(parts[1])
        return result

    def merged_by(self, name: Callable[[Any], Hashable]) -> StatsOfDict:
        """Return statistics by ``name(key)``, those of keys with the same name merged."""
        result = StatsOfDict(default=self._default)
        for key, each in self._stats.items():
            known = result._stats.get(name(key))
            result._stats[name(key)] = each if known is None else known.merge(each)
        return result

    def get(self) -> dict[Hashable, Any]:
        return {key: each.get() for key, each in self._stats.items()}
