"""Define bijections of single numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import Transform
from torch.nn.functional import elu, leaky_relu, logsigmoid

from .. import constraints
from ..shapes import broadcast_shape


class AffineTransform(torch.distributions.transforms.AffineTransform):
    """x ↦ loc + scale x, over the rightmost ``event_dim`` dims at once.

    torch computes its shapes by ``torch.broadcast_shapes``, whose first call imports for most of a second.
    """

    def forward_shape(self, shape: Any) -> torch.Size:
        """Return the shape of the image of a tensor of this shape."""
        return broadcast_shape(shape, getattr(self.loc, "shape", ()), getattr(self.scale, "shape", ()))

    inverse_shape = forward_shape


class ELUTransform(Transform):
    """The exponential linear unit: x for positive x, exp(x) - 1 for negative."""

    domain = constraints.real
    codomain = constraints.greater_than(-1.0)
    bijective = True
    sign = +1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ELUTransform)

    __hash__ = object.__hash__

    def _call(self, x: Tensor) -> Tensor:
        return elu(x)

    def _inverse(self, y: Tensor) -> Tensor:
        negative = y < 0
        return torch.where(negative, torch.log1p(torch.where(negative, y, 0.0)), y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.clamp(max=0.0)


class LeakyReLUTransform(Transform):
    """x for positive x, x / 100 for negative."""

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LeakyReLUTransform)

    __hash__ = object.__hash__

    def _call(self, x: Tensor) -> Tensor:
        return leaky_relu(x, 0.01)

    def _inverse(self, y: Tensor) -> Tensor:
        return leaky_relu(y, 100.0)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        slope = torch.full_like(x, 0.01).log()
        return torch.where(x >= 0, torch.zeros_like(x), slope)


class ExtendedIntervalTransform(Transform):
    """A free number to one between bounds, any of which may be infinite.

    Logistic between two finite bounds, exponential from a single one, the identity without any; chosen
    entry by entry, with operations that do not depend on which bounds are infinite.
    """

    domain = constraints.real
    bijective = True

    def __init__(self, low: Tensor, high: Tensor, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.low, self.high = torch.broadcast_tensors(torch.as_tensor(low), torch.as_tensor(high))
        self._has_low, self._has_high = self.low > -torch.inf, self.high < torch.inf
        self._both = self._has_low & self._has_high
        # Finite stand-ins keep infinities out of values and gradients that are not used.
        self._from = torch.where(self._has_low, self.low, 0.0)
        self._to = torch.where(self._has_high, self.high, self._from.detach() + 1.0)
        self._width = torch.where(self._both, self._to - self._from, 1.0)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def codomain(self) -> Any:
        return constraints.extended_interval(self.low, self.high)

    def with_cache(self, cache_size: int = 1) -> ExtendedIntervalTransform:
        if self._cache_size == cache_size:
            return self
        return ExtendedIntervalTransform(self.low, self.high, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        one_sided = torch.where(self._both, 0.0, x).exp()
        between = self._from + self._width * torch.sigmoid(x)
        single = torch.where(self._has_low, self._from + one_sided, self._to - one_sided)
        single = torch.where(self._has_low | self._has_high, single, x)
        return torch.where(self._both, between, single)

    def _inverse(self, y: Tensor) -> Tensor:
        inside = torch.where(self._both, (y - self._from) / self._width, 0.5)
        distance = torch.where(self._has_low, y - self._from, self._to - y)
        single = torch.where(self._has_low | self._has_high, distance, 1.0).log()
        single = torch.where(self._has_low | self._has_high, single, y)
        return torch.where(self._both, torch.logit(inside), single)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        between = self._width.log() + logsigmoid(x) + logsigmoid(-x)
        single = torch.where(self._has_low | self._has_high, x, 0.0)
        return torch.where(self._both, between, single)

    def forward_shape(self, shape: Any) -> torch.Size:
        return broadcast_shape(shape, self.low.shape)

    inverse_shape = forward_shape


class PositivePowerTransform(Transform):
    """sign(x) |x|^exponent, over all reals.

    :param exponent: a positive number or tensor.
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, exponent: Any, *, cache_size: int = 0, validate_args: bool | None = None) -> None:
        super().__init__(cache_size=cache_size)
        self.exponent = torch.as_tensor(exponent)
        if validate_args is None:
            validate_args = torch.distributions.Distribution._validate_args
        if validate_args and not bool((self.exponent > 0).all()):
            raise ValueError(f"PositivePowerTransform takes a positive exponent, got {exponent}")

    def with_cache(self, cache_size: int = 1) -> PositivePowerTransform:
        if self._cache_size == cache_size:
            return self
        return PositivePowerTransform(self.exponent, cache_size=cache_size, validate_args=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PositivePowerTransform) and bool((self.exponent == other.exponent).all())

    __hash__ = object.__hash__

    def _call(self, x: Tensor) -> Tensor:
        return x.sign() * x.abs().pow(self.exponent)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.sign() * y.abs().pow(self.exponent.reciprocal())

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.exponent.log() + torch.xlogy(self.exponent - 1.0, x.abs())

    def forward_shape(self, shape: Any) -> torch.Size:
        return broadcast_shape(shape, self.exponent.shape)

    inverse_shape = forward_shape
