"""Move batch dims of a distribution into its event, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..errors import message
from .scaling import ScoreParts
from .shapes import sum_rightmost
from .torch_distribution import WRAPPERS, TorchDistribution


class Independent(torch.distributions.Independent, TorchDistribution):
    """The distribution ``base_dist`` with its ``n`` rightmost batch dims counted as event dims.

    :param base_dist: any distribution over tensors.
    :param reinterpreted_batch_ndims: number of dims to move, from 0 to ``len(base_dist.batch_shape)``.
    """

    def __init__(
        self, base_dist: Any, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        batch_shape = base_dist.batch_shape
        split = len(batch_shape) - reinterpreted_batch_ndims
        if split < 0 or reinterpreted_batch_ndims < 0:
            raise ValueError(
                message(
                    f"Expected reinterpreted_batch_ndims <= len({type(base_dist).__name__}.batch_shape).",
                    expected=f"a number from 0 to {len(batch_shape)}: batch_shape is {tuple(batch_shape)}",
                    actual=reinterpreted_batch_ndims,
                    fix="expand the distribution first, or move fewer dims",
                )
            )
        state = self.__dict__
        state["base_dist"] = base_dist
        state["reinterpreted_batch_ndims"] = reinterpreted_batch_ndims
        state["_batch_shape"] = batch_shape[:split]
        state["_event_shape"] = batch_shape[split:] + base_dist.event_shape
        if validate_args is not None:
            state["_validate_args"] = validate_args

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.__dict__.get("has_rsample", self.base_dist.has_rsample))

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.reinterpreted_batch_ndims == 0 and self.base_dist.has_enumerate_support

    @constraints.dependent_property
    def support(self) -> Any:
        n = self.reinterpreted_batch_ndims
        return constraints.independent(self.base_dist.support, n) if n else self.base_dist.support

    @property
    def arg_constraints(self) -> dict[str, Any]:  # type: ignore[override]
        return {}

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = object.__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(self.__dict__)
        batch_shape = torch.Size(batch_shape)
        moved = self._event_shape[: self.reinterpreted_batch_ndims]
        new.__dict__["base_dist"] = self.base_dist.expand(batch_shape + moved)
        new.__dict__["_batch_shape"] = batch_shape
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def score_parts(self, x: Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        if self.has_rsample != self.base_dist.has_rsample:
            return super().score_parts(x)
        parts = self.base_dist.score_parts(x)
        n = self.reinterpreted_batch_ndims
        return ScoreParts(*(part if type(part) is int else sum_rightmost(part, n) for part in parts))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        if self.reinterpreted_batch_ndims > 0:
            raise NotImplementedError(
                message(
                    "Independent cannot enumerate the product of its event's supports.",
                    actual=f"{self.reinterpreted_batch_ndims} dims were moved by to_event",
                    fix="declare those dims by plates instead of to_event, or sample the site",
                )
            )
        return self.base_dist.enumerate_support(expand=expand)

    def conjugate_update(self, other: Any) -> tuple[Any, Tensor]:
        n = self.reinterpreted_batch_ndims
        updated, log_normalizer = self.base_dist.conjugate_update(other.to_event(-n))
        return updated.to_event(n), sum_rightmost(log_normalizer, n)


def reinterpret(distribution: Any, count: int | None) -> Any:
    """Move ``count`` batch dims (None for all) into the event; a negative count moves them back."""
    if count is None:
        count = len(distribution.batch_shape)
    if count == 0:
        return distribution
    base, total = distribution, count
    while isinstance(base, Independent) and "has_rsample" not in base.__dict__:
        total += base.reinterpreted_batch_ndims
        base = base.base_dist
    if total == 0:
        return base
    if total < 0:
        raise ValueError(
            message(
                f"to_event({count}) asks for more dims back than were moved into the event.",
                expected=f"a number from {count - total} up",
                actual=count,
                fix="only dims that to_event moved can be moved back",
            )
        )
    return Independent(base, total)


WRAPPERS["independent"] = reinterpret
