"""Define count families whose rate or probability was integrated out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from .bounded import Beta
from .constraints import integer
from .counts import Binomial, Poisson, count_up_to, log_binomial_coefficient
from .discrete import along_new_dim
from .one_hot import Multinomial
from .parameters import Parameter, one, pair, several, table
from .positive import Gamma
from .shapes import broadcast_shape
from .simplex import Dirichlet
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return a.lgamma() + b.lgamma() - (a + b).lgamma()


class BetaBinomial(TorchDistribution):
    """Binomial counts whose probability is a beta variable.

    :param concentration1: positive; weight of success.
    :param concentration0: positive; weight of failure.
    :param total_count: number of trials.
    """

    arg_constraints = table(
        concentration1=constraints.positive,
        concentration0=constraints.positive,
        total_count=constraints.nonnegative_integer,
    )
    has_enumerate_support = True
    parameter_dims = table(concentration1=0, concentration0=0, total_count=0)
    expand = expand_parameters

    def __init__(
        self,
        concentration1: Parameter,
        concentration0: Parameter,
        total_count: Tensor | int = 1,
        validate_args: bool | None = None,
    ) -> None:
        a, b = pair(concentration1, concentration0)
        self.concentration1, self.concentration0, self.total_count = several(a, b, total_count)
        TorchDistribution.__init__(self, self.concentration1.shape, _EMPTY, validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        probs = Beta(self.concentration1, self.concentration0, validate_args=False).sample(
            torch.Size(sample_shape)
        )
        return Binomial(self.total_count, probs, validate_args=False).sample()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n, a, b = self.total_count, self.concentration1, self.concentration0
        coefficient = log_binomial_coefficient(n.to(a.dtype), value)
        return coefficient + _log_beta(value + a, n - value + b) - _log_beta(a, b)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        p = self.concentration1 / total
        return self.total_count * p * (1.0 - p) * (total + self.total_count) / (total + 1.0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return along_new_dim(self, count_up_to(self.total_count).to(self.concentration1.dtype), expand)


class ExtendedBetaBinomial(BetaBinomial):
    """BetaBinomial over all integers: ``log_prob`` is -inf outside of 0 … ``total_count``."""

    support = integer

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        inside = (value >= 0) & (value <= self.total_count)
        safe = torch.where(inside, value, torch.zeros_like(value))
        return torch.where(inside, super().log_prob(safe), -torch.inf)


class GammaPoisson(TorchDistribution):
    """Poisson counts whose rate is a gamma variable of shape ``concentration`` and rate ``rate``."""

    arg_constraints = table(concentration=constraints.positive, rate=constraints.positive)
    support = constraints.nonnegative_integer
    parameter_dims = table(concentration=0, rate=0)
    expand = expand_parameters

    def __init__(self, concentration: Parameter, rate: Parameter, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = pair(concentration, rate)
        TorchDistribution.__init__(self, self.rate.shape, _EMPTY, validate_args)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        rate = Gamma(self.concentration, self.rate, validate_args=False).sample(torch.Size(sample_shape))
        return Poisson(rate, validate_args=False).sample()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration, self.rate
        coefficient = (a + value).lgamma() - a.lgamma() - (value + 1.0).lgamma()
        # log(b / (1 + b)) and log(1 / (1 + b)), exact for small and for large b.
        return coefficient - a * b.reciprocal().log1p() - value * b.log1p()

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate.square() * (1.0 + self.rate)


class DirichletMultinomial(TorchDistribution):
    """Multinomial counts whose probabilities are a Dirichlet vector.

    :param concentration: positive, along the last dim.
    :param total_count: number of draws, of the batch shape; ``log_prob`` takes it from the value unless
        it is a number or tensor that agrees with it.
    :param is_sparse: accepted for compatibility; says that most counts are zero.
    """

    arg_constraints = table(
        concentration=constraints.independent(constraints.positive, 1),
        total_count=constraints.nonnegative_integer,
    )
    parameter_dims = table(concentration=1, total_count=0)
    expand = expand_parameters

    def __init__(
        self,
        concentration: Tensor,
        total_count: Tensor | int = 1,
        is_sparse: bool = False,
        validate_args: bool | None = None,
    ) -> None:
        total = one(total_count)
        if not isinstance(total_count, Tensor):
            total = total.to(concentration)
        batch = broadcast_shape(concentration.shape[:-1], total.shape)
        self.concentration = concentration.expand(batch + concentration.shape[-1:])
        self.total_count = total.expand(batch)
        self.is_sparse = is_sparse
        TorchDistribution.__init__(self, batch, concentration.shape[-1:], validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        total = int(self.total_count.max())
        if not bool(self.total_count.min() == total):
            raise NotImplementedError("Inhomogeneous total count not supported by `sample`.")
        probs = Dirichlet(self.concentration, validate_args=False).sample(torch.Size(sample_shape))
        return Multinomial(total, probs, validate_args=False).sample()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a = self.concentration
        whole, total = a.sum(-1), value.sum(-1)
        terms = (a + value).lgamma() - a.lgamma() - (value + 1.0).lgamma()
        return terms.sum(-1) + whole.lgamma() + (total + 1.0).lgamma() - (whole + total).lgamma()

    @property
    def mean(self) -> Tensor:
        a = self.concentration
        return self.total_count.unsqueeze(-1) * a / a.sum(-1, keepdim=True)

    @property
    def variance(self) -> Tensor:
        n = self.total_count.unsqueeze(-1)
        whole = self.concentration.sum(-1, keepdim=True)
        p = self.concentration / whole
        return n * p * (1.0 - p) * (n + whole) / (1.0 + whole)


class LogNormalNegativeBinomial(TorchDistribution):
    """A negative binomial whose log rate has normal noise, integrated out by Gauss-Hermite quadrature.

    :param total_count: number of failures, positive.
    :param logits: log odds of success, before the noise.
    :param multiplicative_noise_scale: standard deviation of the noise that is added to the logits, positive.
    :param num_quad_points: number of nodes of the quadrature.
    """

    arg_constraints = table(
        total_count=constraints.greater_than_eq(0),
        logits=constraints.real,
        multiplicative_noise_scale=constraints.positive,
    )
    support = constraints.nonnegative_integer
    parameter_dims = table(total_count=0, logits=0, multiplicative_noise_scale=0)
    expand = expand_parameters

    def __init__(
        self,
        total_count: Parameter,
        logits: Parameter,
        multiplicative_noise_scale: Parameter,
        *,
        num_quad_points: int = 8,
        validate_args: bool | None = None,
    ) -> None:
        if num_quad_points < 1:
            raise ValueError(f"num_quad_points must be positive, got {num_quad_points}")
        self.total_count, self.logits, self.multiplicative_noise_scale = several(
            total_count, logits, multiplicative_noise_scale
        )
        nodes, weights = numpy.polynomial.hermite_e.hermegauss(num_quad_points)
        self.num_quad_points = num_quad_points
        self._nodes = torch.as_tensor(nodes).to(self.logits)
        self._log_weights = torch.as_tensor(numpy.log(weights / weights.sum())).to(self.logits)
        TorchDistribution.__init__(self, self.logits.shape, _EMPTY, validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n, x = self.total_count.unsqueeze(-1), value.unsqueeze(-1)
        logits = self.logits.unsqueeze(-1) + self.multiplicative_noise_scale.unsqueeze(-1) * self._nodes
        powers = n * logsigmoid(-logits) + x * logsigmoid(logits)
        binomial = (n + x).lgamma() - (x + 1.0).lgamma() - n.lgamma()
        return (powers + binomial + self._log_weights).logsumexp(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = torch.empty(shape, dtype=self.logits.dtype, device=self.logits.device).normal_()
        rate = (self.logits + self.multiplicative_noise_scale * noise).exp()
        return torch.poisson(torch._standard_gamma(self.total_count.expand(shape)) * rate)

    @property
    def mean(self) -> Tensor:
        return self.total_count * (self.logits + 0.5 * self.multiplicative_noise_scale.square()).exp()

    @property
    def variance(self) -> Tensor:
        spread = self.multiplicative_noise_scale.square().exp()
        return self.mean + self.mean.square() * (spread * (1.0 + 1.0 / self.total_count) - 1.0)
