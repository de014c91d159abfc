"""Define asymmetric and smoothed families on the real line."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr

from .noise import exponential, gaussian, open_uniform
from .parameters import Parameter, pair, several, table
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()
_EULER = 0.5772156649015329  # minus digamma(1)


class AsymmetricLaplace(TorchDistribution):
    """Two exponential tails of unequal scales around ``loc``.

    The left tail has scale ``scale * asymmetry``, the right one ``scale / asymmetry``.
    """

    arg_constraints = table(loc=constraints.real, scale=constraints.positive, asymmetry=constraints.positive)
    support = constraints.real
    has_rsample = True
    parameter_dims = table(loc=0, scale=0, asymmetry=0)
    expand = expand_parameters

    def __init__(
        self,
        loc: Parameter,
        scale: Parameter,
        asymmetry: Parameter,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.asymmetry = several(loc, scale, asymmetry)
        TorchDistribution.__init__(self, self.loc.shape, _EMPTY, validate_args)

    @property
    def left_scale(self) -> Tensor:
        """Scale of the left tail."""
        return self.scale * self.asymmetry

    @property
    def right_scale(self) -> Tensor:
        """Scale of the right tail."""
        return self.scale / self.asymmetry

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        right = exponential(self.loc, self, sample_shape)
        left = torch.empty_like(right).exponential_()
        return self.loc + self.right_scale * right - self.left_scale * left

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = value - self.loc
        left, right = self.left_scale, self.right_scale
        return -z.abs() / torch.where(z < 0, left, right) - (left + right).log()

    @property
    def mean(self) -> Tensor:
        return self.loc + self.right_scale - self.left_scale

    @property
    def variance(self) -> Tensor:
        return self.left_scale.square() + self.right_scale.square()


class SoftLaplace(TorchDistribution):
    """A smooth density with Laplace tails: the hyperbolic secant distribution."""

    arg_constraints = table(loc=constraints.real, scale=constraints.positive)
    support = constraints.real
    has_rsample = True
    parameter_dims = table(loc=0, scale=0)
    expand = expand_parameters

    def __init__(self, loc: Parameter, scale: Parameter, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale = pair(loc, scale)
        TorchDistribution.__init__(self, self.loc.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self.icdf(open_uniform(self.loc, self, sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return math.log(2.0 / math.pi) - self.scale.log() - torch.logaddexp(z, -z)

    def cdf(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        return z.exp().atan() * (2.0 / math.pi)

    def icdf(self, value: Tensor) -> Tensor:
        # tan near π/2 loses digits; the upper half is the mirror image of the lower one.
        lower = torch.minimum(value, 1.0 - value)
        z = (lower * (math.pi / 2.0)).tan().log()
        return self.loc + self.scale * torch.where(value < 0.5, z, -z)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (math.pi / 2.0) ** 2


class SoftAsymmetricLaplace(TorchDistribution):
    """An asymmetric Laplace variable plus Gaussian noise of deviation ``scale * softness``."""

    arg_constraints = table(
        loc=constraints.real,
        scale=constraints.positive,
        asymmetry=constraints.positive,
        softness=constraints.positive,
    )
    support = constraints.real
    has_rsample = True
    parameter_dims = table(loc=0, scale=0, asymmetry=0, softness=0)
    expand = expand_parameters

    def __init__(
        self,
        loc: Parameter,
        scale: Parameter,
        asymmetry: Parameter = 1.0,
        softness: Parameter = 1.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.asymmetry, self.softness = several(loc, scale, asymmetry, softness)
        TorchDistribution.__init__(self, self.loc.shape, _EMPTY, validate_args)

    @property
    def left_scale(self) -> Tensor:
        """Scale of the left tail."""
        return self.scale * self.asymmetry

    @property
    def right_scale(self) -> Tensor:
        """Scale of the right tail."""
        return self.scale / self.asymmetry

    @property
    def mean(self) -> Tensor:
        return self.loc + self.right_scale - self.left_scale

    @property
    def soft_scale(self) -> Tensor:
        """Standard deviation of the Gaussian noise."""
        return self.scale * self.softness

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        right = exponential(self.loc, self, sample_shape)
        left = torch.empty_like(right).exponential_()
        noise = gaussian(self.loc, self, sample_shape)
        return self.loc + self.right_scale * right - self.left_scale * left + self.soft_scale * noise

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        soft, left, right = self.soft_scale, self.left_scale, self.right_scale
        z = (value - self.loc) / soft
        above, below = soft / right, soft / left
        # Each exponential tail convolved with the Gaussian: an exponentially modified Gaussian density.
        up = 0.5 * above.square() - above * z + log_ndtr(z - above)
        down = 0.5 * below.square() + below * z + log_ndtr(-z - below)
        return torch.logaddexp(up, down) - (left + right).log()

    @property
    def variance(self) -> Tensor:
        return self.left_scale.square() + self.right_scale.square() + self.soft_scale.square()


class SkewLogistic(TorchDistribution):
    """The logistic distribution with its distribution function raised to the power ``asymmetry``."""

    arg_constraints = AsymmetricLaplace.arg_constraints
    support = constraints.real
    has_rsample = True
    parameter_dims = table(loc=0, scale=0, asymmetry=0)
    expand = expand_parameters

    def __init__(
        self,
        loc: Parameter,
        scale: Parameter,
        asymmetry: Parameter = 1.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.asymmetry = several(loc, scale, asymmetry)
        TorchDistribution.__init__(self, self.loc.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        # With u = exp(-e) uniform, logit(u^(1/a)) is exact in both tails.
        decay = exponential(self.loc, self, sample_shape) / self.asymmetry
        return self.loc - self.scale * (decay + (-torch.expm1(-decay)).log())

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        a = self.asymmetry
        return a.log() - self.scale.log() + a * logsigmoid(z) + logsigmoid(-z)

    def cdf(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        return (self.asymmetry * logsigmoid(z)).exp()

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * torch.logit(value.log().div(self.asymmetry).exp())

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * (self.asymmetry.digamma() + _EULER)

    @property
    def variance(self) -> Tensor:
        trigamma = torch.polygamma(1, self.asymmetry)
        return self.scale.square() * (trigamma + math.pi**2 / 6.0)
