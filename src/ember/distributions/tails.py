"""Define families of extreme values and power-law tails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints, transforms

from .constraints import extended_interval
from .noise import exponential
from .parameters import Parameter, pair, several, table
from .torch_distribution import OwnOrBase, TorchDistribution, carrying, expand_parameters, finish

_EMPTY = torch.Size()
# torch has had this family since version 2.8.
_TorchGeneralizedPareto: Any = getattr(
    torch.distributions, "GeneralizedPareto", torch.distributions.Distribution
)
_draw_without_gradient = torch.distributions.Distribution.sample


class Gumbel(torch.distributions.Gumbel, TorchDistribution):
    """The distribution of maxima with light tails, by ``loc`` (real) and ``scale`` (positive)."""

    expand = carrying(torch.distributions.Gumbel.expand)
    has_rsample = True
    sample = _draw_without_gradient

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None) -> None:
        super().__init__(*pair(loc, scale), validate_args=False)
        finish(self, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self.loc - self.scale * exponential(self.loc, self, sample_shape).log()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return -z - (-z).exp() - self.scale.log()


class Weibull(torch.distributions.Weibull, TorchDistribution):
    """A waiting time with hazard growing as a power, by ``scale`` and shape ``concentration``."""

    expand = carrying(torch.distributions.Weibull.expand)
    has_rsample = True
    sample = _draw_without_gradient

    def __init__(self, scale: Parameter, concentration: Parameter, validate_args: bool | None = None) -> None:
        super().__init__(*pair(scale, concentration), validate_args=False)
        finish(self, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        noise = exponential(self.scale, self, sample_shape)
        return self.scale * noise.log().div(self.concentration).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        k = self.concentration
        ratio = value / self.scale
        return (k / self.scale).log() + torch.xlogy(k - 1.0, ratio) - ratio.pow(k)


class Pareto(torch.distributions.Pareto, TorchDistribution):
    """The power law above ``scale``, with exponent ``alpha``; both positive."""

    expand = carrying(torch.distributions.Pareto.expand)
    has_rsample = True
    sample = _draw_without_gradient

    def __init__(self, scale: Parameter, alpha: Parameter, validate_args: bool | None = None) -> None:
        super().__init__(*pair(scale, alpha), validate_args=False)
        finish(self, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self.scale * (exponential(self.scale, self, sample_shape) / self.alpha).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logarithm = value.log()
        density = self.alpha.log() + self.alpha * (self.scale.log() - logarithm) - logarithm
        return torch.where(value >= self.scale, density, -torch.inf)


class FisherSnedecor(torch.distributions.FisherSnedecor, TorchDistribution):
    """The ratio of two mean squares with ``df1`` and ``df2`` degrees of freedom."""

    parameter_dims = table(df1=0, df2=0)
    expand = expand_parameters

    def __init__(self, df1: Parameter, df2: Parameter, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = pair(df1, df2)
        TorchDistribution.__init__(self, self.df1.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = self._extended_shape(sample_shape)
        smallest = torch.finfo(self.df1.dtype).tiny
        above = torch._standard_gamma((0.5 * self.df1).expand(shape)) / self.df1
        below = torch._standard_gamma((0.5 * self.df2).expand(shape)).clamp(min=smallest) / self.df2
        return above / below

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b = 0.5 * self.df1, 0.5 * self.df2
        ratio = self.df1 / self.df2
        log_beta = a.lgamma() + b.lgamma() - (a + b).lgamma()
        powers = torch.xlogy(a, ratio) + torch.xlogy(a - 1.0, value)
        return powers - (a + b) * (ratio * value).log1p() - log_beta


class GeneralizedPareto(_TorchGeneralizedPareto, TorchDistribution):
    """The tail beyond a threshold ``loc``, by ``scale`` (positive) and the tail index ``concentration``.

    A negative index bounds the support at ``loc - scale / concentration``; zero gives an exponential tail.
    """

    arg_constraints = table(loc=constraints.real, scale=constraints.positive, concentration=constraints.real)
    has_rsample = True
    parameter_dims = table(loc=0, scale=0, concentration=0)
    expand = expand_parameters

    def __init__(
        self,
        loc: Parameter,
        scale: Parameter,
        concentration: Parameter,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.concentration = several(loc, scale, concentration)
        TorchDistribution.__init__(self, self.loc.shape, _EMPTY, validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        bounded = self.concentration < 0
        index = torch.where(bounded, self.concentration, -1.0)
        return extended_interval(self.loc, torch.where(bounded, self.loc - self.scale / index, math.inf))

    def _nearly_zero(self) -> Tensor:
        return self.concentration.abs() < torch.finfo(self.concentration.dtype).eps

    def log_survival_function(self, value: Tensor) -> Tensor:
        """Return the log probability of exceeding ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        z, zero = (value - self.loc) / self.scale, self._nearly_zero()
        index = torch.where(zero, 1.0, self.concentration)
        return torch.where(zero, -z, -(index * z).log1p() / index)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z, zero = (value - self.loc) / self.scale, self._nearly_zero()
        index = torch.where(zero, 1.0, self.concentration)
        inside = (z >= 0) & (self.concentration * z > -1.0)
        power = (1.0 + index) / index * (index * torch.where(inside, z, 0.0)).log1p()
        density = -torch.where(zero, z, power) - self.scale.log()
        return torch.where(inside, density, -math.inf)

    def cdf(self, value: Tensor) -> Tensor:
        return -torch.expm1(self.log_survival_function(value))

    def icdf(self, value: Tensor) -> Tensor:
        return self._quantile(-torch.log1p(-value))

    def _quantile(self, exponent: Tensor) -> Tensor:
        """Return the value whose survival probability is exp(-exponent)."""
        zero = self._nearly_zero()
        index = torch.where(zero, 1.0, self.concentration)
        return self.loc + self.scale * torch.where(zero, exponent, torch.expm1(index * exponent) / index)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self._quantile(exponential(self.loc, self, sample_shape))

    @property
    def mean(self) -> Tensor:
        finite = self.concentration < 1
        value = self.loc + self.scale / (1.0 - torch.where(finite, self.concentration, 0.5))
        return torch.where(finite, value, math.inf)

    @property
    def variance(self) -> Tensor:
        finite = self.concentration < 0.5
        index = torch.where(finite, self.concentration, 0.25)
        value = self.scale.square() / ((1.0 - index).square() * (1.0 - 2.0 * index))
        return torch.where(finite, value, math.inf)

    def entropy(self) -> Tensor:
        return self.scale.log() + self.concentration + 1.0


class FoldedDistribution(TorchDistribution):
    """The absolute value of a variable that is distributed symmetrically or not.

    :param base_dist: a distribution of single real numbers.
    """

    arg_constraints: dict[str, Any] = table()
    support = constraints.nonnegative
    parameter_dims = table(base_dist=0)
    expand = expand_parameters
    has_rsample = OwnOrBase()

    def __init__(self, base_dist: Any, validate_args: bool | None = None) -> None:
        if len(base_dist.event_shape) > 0:
            raise ValueError(
                f"FoldedDistribution takes a univariate base, got event_shape {tuple(base_dist.event_shape)}"
            )
        self.base_dist = base_dist
        TorchDistribution.__init__(self, base_dist.batch_shape, _EMPTY, validate_args)

    @property
    def transforms(self) -> list[Any]:
        """What maps a draw of ``base_dist`` to a draw."""
        return [transforms.AbsTransform()]

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self.base_dist.sample(sample_shape).abs()

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self.base_dist.rsample(sample_shape).abs()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        both = torch.logaddexp(self.base_dist.log_prob(value), self.base_dist.log_prob(-value))
        return torch.where(value >= 0, both, -torch.inf)
