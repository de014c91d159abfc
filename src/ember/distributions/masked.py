"""Set the log probability of a distribution to zero where a mask says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..errors import message
from .parameters import table
from .scaling import ScoreParts, scale_and_mask
from .shapes import broadcast_shape
from .torch_distribution import WRAPPERS, TorchDistribution


class MaskedDistribution(TorchDistribution):
    """Draws like ``base_dist``; its log probability counts only where ``mask`` is True.

    :param base_dist: any distribution over tensors.
    :param mask: a bool, or a bool tensor that broadcasts with ``base_dist.batch_shape``.
    :raises ValueError: for a mask of another type or shape.
    """

    base_dist: Any
    _mask: bool | Tensor
    arg_constraints: dict[str, Any] = table()

    def __init__(self, base_dist: Any, mask: bool | Tensor) -> None:
        batch_shape = base_dist.batch_shape
        if not isinstance(mask, bool):
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                raise ValueError(
                    message(
                        f"The mask of {type(base_dist).__name__} must be a bool or a bool tensor.",
                        expected="True, False or a tensor with dtype torch.bool",
                        actual=f"{mask.dtype} tensor" if isinstance(mask, Tensor) else repr(mask),
                        fix="convert it with mask.bool()",
                    )
                )
            shape = broadcast_shape(mask.shape, batch_shape)
            if mask.shape != shape:
                mask = mask.expand(shape)
            if batch_shape != shape:
                base_dist = base_dist.expand(shape)
                batch_shape = shape
        state = self.__dict__
        state["base_dist"] = base_dist
        state["_mask"] = mask
        state["_batch_shape"] = batch_shape
        state["_event_shape"] = base_dist.event_shape

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return bool(self.__dict__.get("has_rsample", self.base_dist.has_rsample))

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_enumerate_support

    @constraints.dependent_property
    def support(self) -> Any:
        return self.base_dist.support

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = object.__new__(type(self)) if _instance is None else _instance
        state = new.__dict__
        state.update(self.__dict__)
        batch_shape = torch.Size(batch_shape)
        state["base_dist"] = self.base_dist.expand(batch_shape)
        state["_batch_shape"] = batch_shape
        if isinstance(self._mask, Tensor):
            state["_mask"] = self._mask.expand(batch_shape)
        return new

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._mask is False:
            event_dim = len(self._event_shape)
            shape = broadcast_shape(self._batch_shape, value.shape[: value.dim() - event_dim])
            dtype = value.dtype if value.dtype.is_floating_point else torch.get_default_dtype()
            return torch.zeros((), dtype=dtype, device=value.device).expand(shape)
        return scale_and_mask(self.base_dist.log_prob(value), mask=self._mask)

    def score_parts(self, x: Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        if self._mask is False or self.has_rsample != self.base_dist.has_rsample:
            return super().score_parts(x)
        return self.base_dist.score_parts(x).scale_and_mask(mask=self._mask)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self.base_dist.enumerate_support(expand=expand)

    def conjugate_update(self, other: Any) -> tuple[Any, Tensor]:
        updated, log_normalizer = self.base_dist.conjugate_update(other)
        updated = updated.mask(self._mask)
        return updated, torch.where(torch.as_tensor(self._mask), log_normalizer, 0.0)


WRAPPERS["masked"] = MaskedDistribution
