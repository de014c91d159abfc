"""Stretch the batch shape of a distribution that cannot stretch its own parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from .parameters import table
from .scaling import ScoreParts
from .shapes import broadcast_shape
from .torch_distribution import WRAPPERS, TorchDistribution


class ExpandedDistribution(TorchDistribution):
    """``base_dist`` with batch dims added on the left, and those of size 1 stretched.

    :param base_dist: any distribution over tensors.
    :param batch_shape: a shape that ``base_dist.batch_shape`` broadcasts to.
    """

    base_dist: Any
    _stretched: tuple[tuple[int, int], ...]
    arg_constraints: dict[str, Any] = table()

    def __init__(self, base_dist: Any, batch_shape: Sequence[int] = torch.Size()) -> None:
        batch_shape = torch.Size(batch_shape)
        if isinstance(base_dist, ExpandedDistribution):
            broadcast_shape(base_dist._batch_shape, batch_shape)
            base_dist = base_dist.base_dist
        if broadcast_shape(base_dist.batch_shape, batch_shape) != batch_shape:
            raise ValueError(
                f"cannot expand {type(base_dist).__name__} of batch_shape {tuple(base_dist.batch_shape)} "
                f"to {tuple(batch_shape)}"
            )
        state = self.__dict__
        state["base_dist"] = base_dist
        state["_batch_shape"] = batch_shape
        state["_event_shape"] = base_dist.event_shape
        own = base_dist.batch_shape
        split = len(batch_shape) - len(own)
        # Dims of the base that are stretched: their extra draws are made on the left, then moved here.
        state["_stretched"] = tuple(
            (split + i, batch_shape[split + i])
            for i, size in enumerate(own)
            if size == 1 and batch_shape[split + i] != 1
        )

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.__dict__.get("has_rsample", self.base_dist.has_rsample))

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_enumerate_support

    @constraints.dependent_property
    def support(self) -> Any:
        return self.base_dist.support

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        broadcast_shape(self._batch_shape, batch_shape)
        new = type(self)(self.base_dist, batch_shape)
        for name in ("has_rsample", "_validate_args"):
            if name in self.__dict__:
                new.__dict__[name] = self.__dict__[name]
        return new

    def _draw(self, draw: Any, sample_shape: Sequence[int]) -> Tensor:
        sample_shape = torch.Size(sample_shape)
        own = len(self.base_dist.batch_shape)
        added = self._batch_shape[: len(self._batch_shape) - own]
        extra = torch.Size(size for _, size in self._stretched)
        value = draw(extra + sample_shape + added)
        for dim, _ in reversed(self._stretched):
            # After earlier moves the dim that belongs here is the last of the extra ones on the left.
            source = len(extra) - 1
            extra = extra[:-1]
            target = len(extra) + len(sample_shape) + dim
            value = value.movedim(source, target).squeeze(target + 1)
        return value

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        return self._draw(self.base_dist.sample, sample_shape)

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        return self._draw(self.base_dist.rsample, sample_shape)

    def _stretch(self, value: Tensor, value_shape: torch.Size) -> Tensor:
        event_dim = len(self._event_shape)
        return value.expand(
            broadcast_shape(self._batch_shape, value_shape[: len(value_shape) - event_dim], value.shape)
        )

    def log_prob(self, value: Tensor) -> Tensor:
        return self._stretch(self.base_dist.log_prob(value), value.shape)

    def score_parts(self, x: Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        if self.has_rsample != self.base_dist.has_rsample:
            return super().score_parts(x)
        parts = self.base_dist.score_parts(x)
        return ScoreParts(*(part if type(part) is int else self._stretch(part, x.shape) for part in parts))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values = self.base_dist.enumerate_support(expand=False)
        added = len(self._batch_shape) - len(self.base_dist.batch_shape)
        values = values.reshape(values.shape[:1] + (1,) * added + values.shape[1:])
        return values.expand(values.shape[:1] + self._batch_shape + self._event_shape) if expand else values

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean.expand(self._batch_shape + self._event_shape)

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance.expand(self._batch_shape + self._event_shape)

    def conjugate_update(self, other: Any) -> tuple[Any, Tensor]:
        updated, log_normalizer = self.base_dist.conjugate_update(other)
        shape = broadcast_shape(self._batch_shape, other.batch_shape)
        return updated.expand(shape), log_normalizer.expand(shape)


WRAPPERS["expanded"] = ExpandedDistribution
