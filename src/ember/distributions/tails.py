"""Define families of extreme values and power-law tails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints, transforms

from .noise import exponential, open_uniform
from .parameters import Parameter, pair, table
from .torch_distribution import OwnOrBase, TorchDistribution, carrying, expand_parameters, finish

_EMPTY = torch.Size()
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

    expand = carrying(torch.distributions.FisherSnedecor.expand)

    def __init__(self, df1: Parameter, df2: Parameter, validate_args: bool | None = None) -> None:
        super().__init__(*pair(df1, df2), validate_args=False)
        finish(self, validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b = 0.5 * self.df1, 0.5 * self.df2
        ratio = self.df1 / self.df2
        log_beta = a.lgamma() + b.lgamma() - (a + b).lgamma()
        powers = torch.xlogy(a, ratio) + torch.xlogy(a - 1.0, value)
        return powers - (a + b) * (ratio * value).log1p() - log_beta


if hasattr(torch.distributions, "GeneralizedPareto"):

    class GeneralizedPareto(torch.distributions.GeneralizedPareto, TorchDistribution):
        """The tail beyond a threshold ``loc``, by ``scale`` and the tail index ``concentration``."""

        expand = carrying(torch.distributions.GeneralizedPareto.expand)

        def __init__(
            self,
            loc: Parameter,
            scale: Parameter,
            concentration: Parameter,
            validate_args: bool | None = None,
        ) -> None:
            super().__init__(loc, scale, concentration, validate_args=False)
            finish(self, validate_args)

        def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
            return self.icdf(open_uniform(self.loc, self, sample_shape))


class FoldedDistribution(TorchDistribution):
    """The absolute value of a variable that is distributed symmetrically or not.

    :param base_dist: a distribution of single real numbers.
    """

    arg_constraints: dict[str, Any] = table()
    support = constraints.nonnegative
    parameter_dims = table(base_dist=0)
    expand = expand_parameters
    has_rsample = OwnOrBase()  # type: ignore[assignment]

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
