"""Define continuous families on intervals."""

# mypy: disable-error-code="override"
# Properties stand where torch keeps composite instances.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints, transforms
from torch.distributions.utils import clamp_probs

from .conjugacy import log_overlap
from .discrete import either
from .noise import uniform
from .parameters import NEGATIVE_INFINITY, ONE, Parameter, one, pair, several, table
from .simplex import draw_dirichlet
from .torch_distribution import TorchDistribution, carrying, expand_parameters, finish

_EMPTY = torch.Size()
_draw_without_gradient = torch.distributions.Distribution.sample


class Uniform(torch.distributions.Uniform, TorchDistribution):
    """The uniform distribution on [low, high]; draws lie in [low, high)."""

    parameter_dims = table(low=0, high=0)
    expand = expand_parameters

    def __init__(self, low: Parameter, high: Parameter, validate_args: bool | None = None) -> None:
        self.low, self.high = low, high = pair(low, high)
        TorchDistribution.__init__(self, low.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return torch.lerp(self.low, self.high, uniform(self.low, self, sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        low, high = self.low, self.high
        inside = (low <= value) & (value <= high)
        density = (high - low).log().neg()
        return torch.where(inside, density, NEGATIVE_INFINITY[density.dtype])


class Beta(torch.distributions.Beta, TorchDistribution):
    """The beta distribution on the unit interval.

    :param concentration1: positive; weight of one.
    :param concentration0: positive; weight of zero.
    """

    parameter_dims = table(concentration1=0, concentration0=0)
    expand = expand_parameters
    # Plain attributes in place of torch's properties.
    concentration1: Tensor = None  # type: ignore[assignment]
    concentration0: Tensor = None  # type: ignore[assignment]

    def __init__(
        self, concentration1: Parameter, concentration0: Parameter, validate_args: bool | None = None
    ) -> None:
        self.concentration1, self.concentration0 = pair(concentration1, concentration0)
        TorchDistribution.__init__(self, self.concentration1.shape, _EMPTY, validate_args)

    @property
    def _dirichlet(self) -> torch.distributions.Dirichlet:
        concentration = torch.stack([self.concentration1, self.concentration0], -1)
        return torch.distributions.Dirichlet(concentration, validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        concentration = torch.stack((self.concentration1, self.concentration0), -1)
        if sample_shape:
            concentration = concentration.expand(torch.Size(sample_shape) + concentration.shape)
        return draw_dirichlet(concentration).select(-1, 0)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        unit = ONE[a.dtype]
        powers = torch.xlogy(a - unit, value) + torch.special.xlog1py(b - unit, -value)
        return powers + (a + b).lgamma() - a.lgamma() - b.lgamma()

    def conjugate_update(self, other: Any) -> tuple[Any, Tensor]:
        if not isinstance(other, Beta):
            return super().conjugate_update(other)
        updated = Beta(
            self.concentration1 + other.concentration1 - 1.0, self.concentration0 + other.concentration0 - 1.0
        )
        return updated, log_overlap(self, other, updated, updated.mean)


class AffineBeta(TorchDistribution):
    """A beta variable times ``scale`` plus ``loc``: beta on the interval [loc, loc + scale].

    :param concentration1: positive.
    :param concentration0: positive.
    :param loc: lower bound, real.
    :param scale: width, positive.
    """

    arg_constraints = table(
        concentration1=constraints.positive,
        concentration0=constraints.positive,
        loc=constraints.real,
        scale=constraints.positive,
    )
    has_rsample = True
    parameter_dims = table(concentration1=0, concentration0=0, loc=0, scale=0)
    expand = expand_parameters

    def __init__(
        self,
        concentration1: Parameter,
        concentration0: Parameter,
        loc: Parameter,
        scale: Parameter,
        validate_args: bool | None = None,
    ) -> None:
        self.concentration1, self.concentration0, self.loc, self.scale = several(
            concentration1, concentration0, loc, scale
        )
        TorchDistribution.__init__(self, self.loc.shape, _EMPTY, validate_args)

    @property
    def base_dist(self) -> Beta:
        """The beta distribution on the unit interval."""
        return Beta(self.concentration1, self.concentration0, validate_args=False)

    @property
    def transforms(self) -> list[Any]:
        """What maps a draw of ``base_dist`` to a draw."""
        return [transforms.AffineTransform(self.loc, self.scale)]

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def low(self) -> Tensor:
        """Lower bound."""
        return self.loc

    @property
    def high(self) -> Tensor:
        """Upper bound."""
        return self.loc + self.scale

    @property
    def sample_size(self) -> Tensor:
        """Sum of the concentrations, the weight of the prior in observations."""
        return self.concentration1 + self.concentration0

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return torch.addcmul(self.loc, self.base_dist.rsample(sample_shape), self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.base_dist.log_prob((value - self.loc) / self.scale) - self.scale.log()

    @property
    def mean(self) -> Tensor:
        return torch.addcmul(self.loc, self.base_dist.mean, self.scale)

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance * self.scale.square()


class Kumaraswamy(torch.distributions.Kumaraswamy, TorchDistribution):
    """A family on the unit interval with a closed distribution function, 1 - (1 - x^a)^b."""

    expand = carrying(torch.distributions.Kumaraswamy.expand)
    sample = _draw_without_gradient

    def __init__(
        self, concentration1: Parameter, concentration0: Parameter, validate_args: bool | None = None
    ) -> None:
        super().__init__(*pair(concentration1, concentration0), validate_args=False)
        finish(self, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        a, b = self.concentration1, self.concentration0
        # 1 - u is uniform as well, and -log(u) exponential; expm1 keeps the draws near zero exact.
        noise = torch.empty(self._extended_shape(sample_shape), dtype=a.dtype, device=a.device).exponential_()
        return (-torch.expm1(-noise / b)).log().div(a).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        powers = torch.xlogy(a - 1.0, value) + torch.special.xlog1py(b - 1.0, -value.pow(a))
        return a.log() + b.log() + powers


class ContinuousBernoulli(torch.distributions.ContinuousBernoulli, TorchDistribution):
    """The exponential family on the unit interval with the Bernoulli kernel, by ``probs`` or ``logits``."""

    parameter_dims = table(probs=0, logits=0, _param=0)
    expand = expand_parameters

    def __init__(
        self,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:
        name, value = either("ContinuousBernoulli", probs, logits)
        state = self.__dict__
        state[name] = state["_param"] = value = one(value)
        state["_lims"] = lims
        TorchDistribution.__init__(self, value.shape, _EMPTY, validate_args)
        if name == "probs":
            state["probs"] = state["_param"] = clamp_probs(value)
