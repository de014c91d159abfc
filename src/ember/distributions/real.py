"""Define symmetric families on the whole real line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from .conjugacy import log_overlap
from .noise import exponential, gaussian, unfilled
from .parameters import HALF, ONE, Constant, Parameter, pair, several, table
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()
_LOG_NORMALIZER = Constant(-0.5 * math.log(2.0 * math.pi))
_MINUS_LOG_PI = Constant(-math.log(math.pi))
_HALF_LOG_ONE_OVER_PI = Constant(-0.5 * math.log(math.pi))
_MINUS_LOG_TWO = Constant(-math.log(2.0))
_draw_without_gradient = torch.distributions.Distribution.sample


class Normal(torch.distributions.Normal, TorchDistribution):
    """The Gaussian distribution.

    :param loc: mean, real.
    :param scale: standard deviation, positive.
    """

    parameter_dims = table(loc=0, scale=0)
    expand = expand_parameters
    sample = _draw_without_gradient

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale = pair(loc, scale)
        TorchDistribution.__init__(self, loc.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return torch.addcmul(self.loc, gaussian(self.loc, self, sample_shape), self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        # The normaliser first: with a constant scale it is no part of the gradient's graph.
        return torch.addcmul(_LOG_NORMALIZER[z.dtype] - self.scale.log(), z, z, value=-0.5)

    def conjugate_update(self, other: Any) -> tuple[Any, Tensor]:
        if not isinstance(other, Normal):
            return super().conjugate_update(other)
        precision, more = self.scale.square().reciprocal(), other.scale.square().reciprocal()
        total = precision + more
        updated = Normal((self.loc * precision + other.loc * more) / total, total.rsqrt())
        return updated, log_overlap(self, other, updated, updated.loc)


class Cauchy(torch.distributions.Cauchy, TorchDistribution):
    """The Cauchy distribution, with median ``loc`` (real) and half width ``scale`` (positive)."""

    parameter_dims = table(loc=0, scale=0)
    expand = expand_parameters

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale = pair(loc, scale)
        TorchDistribution.__init__(self, loc.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return torch.addcmul(self.loc, unfilled(self.loc, self, sample_shape).cauchy_(), self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        # log(1 + z²) by hypot, which does not overflow where z² does.
        spread = torch.hypot(z, ONE[z.dtype]).log()
        return torch.sub(_MINUS_LOG_PI[z.dtype] - self.scale.log(), spread, alpha=2)


class Laplace(torch.distributions.Laplace, TorchDistribution):
    """The double exponential distribution, with median ``loc`` (real) and ``scale`` (positive)."""

    parameter_dims = table(loc=0, scale=0)
    expand = expand_parameters

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale = pair(loc, scale)
        TorchDistribution.__init__(self, loc.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        # The difference of two exponential variables is exact in both tails.
        right = exponential(self.loc, self, sample_shape)
        noise = right - torch.empty_like(right).exponential_()
        return torch.addcmul(self.loc, noise, self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return _MINUS_LOG_TWO[z.dtype] - self.scale.log() - z.abs()


class Logistic(TorchDistribution):
    """The logistic distribution, with mean ``loc`` (real) and ``scale`` (positive)."""

    arg_constraints = table(loc=constraints.real, scale=constraints.positive)
    support = constraints.real
    has_rsample = True
    parameter_dims = table(loc=0, scale=0)
    expand = expand_parameters

    def __init__(self, loc: Parameter, scale: Parameter, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale = pair(loc, scale)
        TorchDistribution.__init__(self, loc.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        # The logarithm of a ratio of two exponential variables is logistic, and exact in both tails.
        above = exponential(self.loc, self, sample_shape).log()
        noise = above - torch.empty_like(above).exponential_().log()
        return torch.addcmul(self.loc, noise, self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z) - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        return torch.sigmoid((value - self.loc) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * torch.logit(value)

    def entropy(self) -> Tensor:
        return self.scale.log() + 2.0

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (math.pi**2 / 3.0)


class StudentT(torch.distributions.StudentT, TorchDistribution):
    """Student's t, with ``df`` degrees of freedom and ``scale`` (positive) around ``loc`` (real)."""

    parameter_dims = table(df=0, loc=0, scale=0)
    expand = expand_parameters
    # torch keeps a chi-squared instance to draw from; a gamma draw needs none.
    _chi2 = None  # type: ignore[assignment]

    def __init__(
        self,
        df: Parameter,
        loc: Parameter = 0.0,
        scale: Parameter = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.df, self.loc, self.scale = several(df, loc, scale)
        TorchDistribution.__init__(self, self.df.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        noise = gaussian(self.df, self, sample_shape)
        half_df = self.df * HALF[self.df.dtype]
        chi2_over_df = torch._standard_gamma(half_df.expand(noise.shape)) / half_df
        return torch.addcmul(self.loc, noise * chi2_over_df.rsqrt(), self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        unit = HALF[self.df.dtype]
        half = self.df * unit
        more = half + unit
        normalizer = (
            more.lgamma()
            - half.lgamma()
            + torch.addcmul(_HALF_LOG_ONE_OVER_PI[half.dtype], self.df.log(), unit, value=-1)
        )
        normalizer = normalizer - self.scale.log()
        return torch.addcmul(normalizer, more, (z * z / self.df).log1p(), value=-1)

    def entropy(self) -> Tensor:
        half, more = 0.5 * self.df, 0.5 * (self.df + ONE[self.df.dtype])
        log_beta = half.lgamma() + math.lgamma(0.5) - more.lgamma()
        spread = more * (more.digamma() - half.digamma()) + 0.5 * self.df.log()
        return self.scale.log() + spread + log_beta
