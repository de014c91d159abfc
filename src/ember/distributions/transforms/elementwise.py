"""Define bijections of single numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import Transform
from torch.nn.functional import elu, leaky_relu

from .. import constraints


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
        return torch.broadcast_shapes(shape, self.exponent.shape)

    inverse_shape = forward_shape
