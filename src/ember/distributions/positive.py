"""Define the common families on the positive half-line."""

# mypy: disable-error-code="override"
# Properties stand where torch keeps composite instances.

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import transforms

from .conjugacy import log_overlap
from .noise import exponential, gaussian, unfilled
from .parameters import NEGATIVE_INFINITY, ONE, ZERO, Constant, Parameter, one, pair, table
from .real import Cauchy, Normal
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()
_LOG_NORMALIZER = Constant(-0.5 * math.log(2.0 * math.pi))
_LOG_HALF_NORMALIZER = Constant(0.5 * math.log(2.0 / math.pi))
_LOG_TWO_OVER_PI = Constant(math.log(2.0 / math.pi))
_draw_without_gradient = torch.distributions.Distribution.sample


class Exponential(torch.distributions.Exponential, TorchDistribution):
    """The waiting time for an event of rate ``rate`` (positive)."""

    parameter_dims = table(rate=0)
    expand = expand_parameters

    def __init__(self, rate: Parameter, validate_args: bool | None = None) -> None:
        self.rate = rate = one(rate)
        TorchDistribution.__init__(self, rate.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return exponential(self.rate, self, sample_shape) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.rate.log() - self.rate * value


class Gamma(torch.distributions.Gamma, TorchDistribution):
    """The gamma distribution with shape ``concentration`` and ``rate``, both positive."""

    parameter_dims = table(concentration=0, rate=0)
    expand = expand_parameters

    def __init__(self, concentration: Parameter, rate: Parameter, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = concentration, rate = pair(concentration, rate)
        TorchDistribution.__init__(self, rate.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        concentration = self.concentration
        if sample_shape:
            concentration = concentration.expand(torch.Size(sample_shape) + self._batch_shape)
        value = torch._standard_gamma(concentration) / self.rate
        # Draws that underflow are kept off zero, where the density may be infinite; no gradient sees it.
        value.detach().clamp_(min=torch.finfo(value.dtype).tiny)
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        rate, concentration = self.rate, self.concentration
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=rate.dtype, device=rate.device)
        if self._validate_args:
            self._validate_sample(value)
        powers = torch.xlogy(concentration, rate) + torch.xlogy(concentration - ONE[rate.dtype], value)
        return powers - rate * value - concentration.lgamma()

    def conjugate_update(self, other: Any) -> tuple[Any, Tensor]:
        if not isinstance(other, Gamma):
            return super().conjugate_update(other)
        updated = Gamma(self.concentration + other.concentration - 1.0, self.rate + other.rate)
        return updated, log_overlap(self, other, updated, updated.mean)


class Chi2(torch.distributions.Chi2, TorchDistribution):
    """The sum of ``df`` squared standard normal variables: a gamma distribution."""

    parameter_dims = table(concentration=0, rate=0)
    expand = expand_parameters
    rsample = Gamma.rsample
    log_prob = Gamma.log_prob

    def __init__(self, df: Parameter, validate_args: bool | None = None) -> None:
        self.concentration = concentration = 0.5 * one(df)
        self.rate = torch.full_like(concentration, 0.5)
        TorchDistribution.__init__(self, concentration.shape, _EMPTY, validate_args)


class InverseGamma(torch.distributions.InverseGamma, TorchDistribution):
    """The reciprocal of a gamma variable of shape ``concentration`` and rate ``rate``."""

    parameter_dims = table(concentration=0, rate=0)
    expand = expand_parameters
    # Plain attributes in place of torch's properties.
    concentration: Tensor = None  # type: ignore[assignment]
    rate: Tensor = None  # type: ignore[assignment]
    sample = _draw_without_gradient

    def __init__(self, concentration: Parameter, rate: Parameter, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = concentration, rate = pair(concentration, rate)
        TorchDistribution.__init__(self, rate.shape, _EMPTY, validate_args)

    @property
    def base_dist(self) -> Gamma:
        """Distribution of the reciprocal."""
        return Gamma(self.concentration, self.rate, validate_args=False)

    @property
    def transforms(self) -> list[Any]:
        """What maps a draw of ``base_dist`` to a draw."""
        return [transforms.PowerTransform(-torch.ones_like(self.rate))]

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        concentration = self.concentration
        if sample_shape:
            concentration = concentration.expand(torch.Size(sample_shape) + self._batch_shape)
        noise = torch._standard_gamma(concentration)
        return self.rate / noise.clamp(min=torch.finfo(noise.dtype).tiny)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        concentration, rate = self.concentration, self.rate
        powers = torch.xlogy(concentration, rate) - (concentration + ONE[rate.dtype]) * value.log()
        return powers - rate / value - concentration.lgamma()


class LogNormal(torch.distributions.LogNormal, TorchDistribution):
    """The exponential of a Gaussian of mean ``loc`` and standard deviation ``scale``."""

    parameter_dims = table(loc=0, scale=0)
    expand = expand_parameters
    loc: Tensor = None  # type: ignore[assignment]
    scale: Tensor = None  # type: ignore[assignment]
    sample = _draw_without_gradient

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale = pair(loc, scale)
        TorchDistribution.__init__(self, loc.shape, _EMPTY, validate_args)

    @property
    def base_dist(self) -> Normal:
        """Distribution of the logarithm."""
        return Normal(self.loc, self.scale, validate_args=False)

    @property
    def transforms(self) -> list[Any]:
        """What maps a draw of ``base_dist`` to a draw."""
        return [transforms.ExpTransform()]

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return torch.addcmul(self.loc, gaussian(self.loc, self, sample_shape), self.scale).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logarithm = value.log()
        z = (logarithm - self.loc) / self.scale
        normalizer = _LOG_NORMALIZER[z.dtype] - self.scale.log()
        return torch.addcmul(normalizer, z, z, value=-0.5) - logarithm


class HalfNormal(torch.distributions.HalfNormal, TorchDistribution):
    """The absolute value of a centred Gaussian of standard deviation ``scale`` (positive)."""

    parameter_dims = table(scale=0)
    expand = expand_parameters
    scale: Tensor = None  # type: ignore[assignment]
    sample = _draw_without_gradient

    def __init__(self, scale: Parameter, validate_args: bool | None = None) -> None:
        self.scale = scale = one(scale)
        TorchDistribution.__init__(self, scale.shape, _EMPTY, validate_args)

    @property
    def base_dist(self) -> Normal:
        """Distribution before the absolute value is taken."""
        return Normal(torch.zeros_like(self.scale), self.scale, validate_args=False)

    @property
    def transforms(self) -> list[Any]:
        """What maps a draw of ``base_dist`` to a draw."""
        return [transforms.AbsTransform()]

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return gaussian(self.scale, self, sample_shape).abs() * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = value / self.scale
        normalizer = _where_not_negative(z, _LOG_HALF_NORMALIZER[z.dtype] - self.scale.log())
        return torch.addcmul(normalizer, z, z, value=-0.5)


class HalfCauchy(torch.distributions.HalfCauchy, TorchDistribution):
    """The absolute value of a centred Cauchy variable of scale ``scale`` (positive)."""

    parameter_dims = table(scale=0)
    expand = expand_parameters
    scale: Tensor = None  # type: ignore[assignment]
    sample = _draw_without_gradient

    def __init__(self, scale: Parameter, validate_args: bool | None = None) -> None:
        self.scale = scale = one(scale)
        TorchDistribution.__init__(self, scale.shape, _EMPTY, validate_args)

    @property
    def base_dist(self) -> Cauchy:
        """Distribution before the absolute value is taken."""
        return Cauchy(torch.zeros_like(self.scale), self.scale, validate_args=False)

    @property
    def transforms(self) -> list[Any]:
        """What maps a draw of ``base_dist`` to a draw."""
        return [transforms.AbsTransform()]

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return unfilled(self.scale, self, sample_shape).cauchy_().abs() * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = value / self.scale
        spread = torch.hypot(z, ONE[z.dtype]).log()
        normalizer = _where_not_negative(z, _LOG_TWO_OVER_PI[z.dtype] - self.scale.log())
        return torch.sub(normalizer, spread, alpha=2)


def _where_not_negative(z: Tensor, normalizer: Tensor) -> Tensor:
    """Return the normaliser with -inf where ``z`` is outside the support.

    Chosen here rather than at the end, the choice is no part of the gradient's graph for a constant scale.
    """
    return torch.where(z >= ZERO[z.dtype], normalizer, NEGATIVE_INFINITY[z.dtype])
