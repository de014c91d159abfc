"""Define mixtures of distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..errors import message
from .parameters import table
from .shapes import broadcast_shape
from .torch_distribution import TorchDistribution, carrying, finish

_EMPTY = torch.Size()


class MixtureSameFamily(torch.distributions.MixtureSameFamily, TorchDistribution):
    """A mixture along the rightmost batch dim of ``component_distribution``.

    :param mixture_distribution: a Categorical over that dim.
    :param component_distribution: a distribution whose rightmost batch dim counts the components.
    """

    expand = carrying(torch.distributions.MixtureSameFamily.expand)
    arg_constraints: dict[str, Any] = table()

    def __init__(
        self, mixture_distribution: Any, component_distribution: Any, validate_args: bool | None = None
    ) -> None:
        super().__init__(mixture_distribution, component_distribution, validate_args=False)
        finish(self, validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        return constraints.MixtureSameFamilyConstraint(self._component_distribution.support)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        components = self._component_distribution.log_prob(self._pad(value))
        return torch.logsumexp(components + self._mixture_distribution.logits.log_softmax(-1), -1)


class MaskedMixture(TorchDistribution):
    """``component1`` where ``mask`` is True, ``component0`` elsewhere.

    :param mask: bool tensor that broadcasts with the batch shapes.
    :param component0: a distribution.
    :param component1: a distribution with the same event shape.
    """

    arg_constraints: dict[str, Any] = table()

    def __init__(
        self, mask: Tensor, component0: Any, component1: Any, validate_args: bool | None = None
    ) -> None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise ValueError(
                message(
                    "The mask of MaskedMixture must be a bool tensor.",
                    actual=f"{mask.dtype} tensor" if isinstance(mask, Tensor) else repr(mask),
                    fix="convert it with mask.bool()",
                )
            )
        if component0.event_shape != component1.event_shape:
            raise ValueError(
                message(
                    "The components of MaskedMixture must have one event_shape.",
                    actual=f"{tuple(component0.event_shape)} and {tuple(component1.event_shape)}",
                )
            )
        batch = broadcast_shape(mask.shape, component0.batch_shape, component1.batch_shape)
        self.mask_ = mask if mask.shape == batch else mask.expand(batch)
        self.component0 = component0 if component0.batch_shape == batch else component0.expand(batch)
        self.component1 = component1 if component1.batch_shape == batch else component1.expand(batch)
        TorchDistribution.__init__(self, batch, component0.event_shape, validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        both = self.component0.has_rsample and self.component1.has_rsample
        return bool(self.__dict__.get("has_rsample", both))

    @constraints.dependent_property
    def support(self) -> Any:
        first, second = self.component0.support, self.component1.support
        return first if first is second else _MaskedSupport(self._spread(), first, second)

    def _spread(self) -> Tensor:
        return self.mask_.reshape(self.mask_.shape + (1,) * len(self._event_shape))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = object.__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(self.__dict__)
        new._batch_shape = batch_shape = torch.Size(batch_shape)
        new.mask_ = self.mask_.expand(batch_shape)
        new.component0 = self.component0.expand(batch_shape)
        new.component1 = self.component1.expand(batch_shape)
        return new

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        with torch.no_grad():
            return torch.where(
                self._spread(), self.component1.sample(sample_shape), self.component0.sample(sample_shape)
            )

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return torch.where(
            self._spread(), self.component1.rsample(sample_shape), self.component0.rsample(sample_shape)
        )

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        mask = self._spread()
        # A value meant for one component may lie outside of the other's support.
        inside1, inside0 = self.component1.sample(), self.component0.sample()
        density1 = self.component1.log_prob(torch.where(mask, value, inside1))
        density0 = self.component0.log_prob(torch.where(mask, inside0, value))
        return torch.where(self.mask_, density1, density0)

    @property
    def mean(self) -> Tensor:
        return torch.where(self._spread(), self.component1.mean, self.component0.mean)

    @property
    def variance(self) -> Tensor:
        return torch.where(self._spread(), self.component1.variance, self.component0.variance)


class _MaskedSupport(constraints.Constraint):
    """Hold one constraint where a mask is True and another elsewhere."""

    def __init__(self, mask: Tensor, where_false: Any, where_true: Any) -> None:
        self.mask, self.where_false, self.where_true = mask, where_false, where_true
        self.event_dim = max(where_false.event_dim, where_true.event_dim)
        self.is_discrete = where_false.is_discrete or where_true.is_discrete
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        mask = self.mask
        for _ in range(self.event_dim):
            mask = mask.select(-1, 0)
        return torch.where(mask, self.where_true.check(value), self.where_false.check(value))
