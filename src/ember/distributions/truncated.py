"""Define the Gaussian that is cut off at bounds, exact far out in the tails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.special import log_ndtr, ndtri

from .constraints import extended_interval
from .noise import open_uniform
from .parameters import Parameter, several, table
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class TruncatedNormal(TorchDistribution):
    """A Gaussian of mean ``loc`` and deviation ``scale``, given that it lies in [low, high].

    Everything is computed with logarithms of tail probabilities, so that an interval fifty deviations
    from ``loc`` is as good as one around it. Draws carry implicit gradients to all four parameters.

    :param low: lower bound; -inf for none.
    :param high: upper bound, above ``low``; inf for none.
    """

    has_rsample = True
    parameter_dims = table(loc=0, scale=0, low=0, high=0)
    expand = expand_parameters

    def __init__(
        self,
        loc: Parameter,
        scale: Parameter,
        low: Parameter = -math.inf,
        high: Parameter = math.inf,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale, self.low, self.high = several(loc, scale, low, high)
        TorchDistribution.__init__(self, self.loc.shape, _EMPTY, validate_args)

    @property
    def arg_constraints(self) -> dict[str, Any]:
        return {
            "loc": constraints.real,
            "scale": constraints.positive,
            "low": constraints.less_than(self.high),
            "high": constraints.greater_than(self.low),
        }

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return extended_interval(self.low, self.high)

    def _bounds(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the standardised bounds, and where they are finite; infinite ones are replaced.

        The replacement keeps infinities out of the gradients.
        """
        finite_low, finite_high = self.low > -math.inf, self.high < math.inf
        a = (torch.where(finite_low, self.low, self.loc) - self.loc) / self.scale
        b = (torch.where(finite_high, self.high, self.loc) - self.loc) / self.scale
        return a, b, finite_low, finite_high

    def _log_mass(self) -> Tensor:
        """Return the log probability that the Gaussian lies between the bounds."""
        a, b, finite_low, finite_high = self._bounds()
        # Reflected, if need be, so that the difference is one of lower tails.
        reflect = torch.where(finite_low, a > 0, False)
        outer = torch.where(reflect, finite_high, finite_low)
        inner = torch.where(reflect, finite_low, finite_high)
        lower = torch.where(reflect, -b, a)
        upper = torch.where(reflect, -a, b)
        log_upper = torch.where(inner, log_ndtr(upper), 0.0)
        gap = torch.where(outer, log_ndtr(lower) - log_upper, -1.0)
        return log_upper + torch.where(outer, torch.log(-torch.expm1(gap)), 0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        density = -0.5 * z.square() - _HALF_LOG_TWO_PI - self.scale.log() - self._log_mass()
        return torch.where((value >= self.low) & (value <= self.high), density, -math.inf)

    def cdf(self, value: Tensor) -> Tensor:
        inner = value.clamp(self.low, self.high)
        part = TruncatedNormal(self.loc, self.scale, self.low, inner, validate_args=False)
        ratio = (part._log_mass() - self._log_mass()).exp()
        return torch.where(inner > self.low, ratio, 0.0)

    def icdf(self, value: Tensor) -> Tensor:
        a, b, finite_low, finite_high = self._bounds()
        with torch.no_grad():
            log_u, log_v = value.log(), torch.log1p(-value)
            infinity = math.inf
            low = torch.where(finite_low, a, -infinity)
            high = torch.where(finite_high, b, infinity)
            below = torch.logaddexp(log_ndtr(low) + log_v, log_ndtr(high) + log_u)
            above = torch.logaddexp(log_ndtr(-low) + log_v, log_ndtr(-high) + log_u)
            z = torch.where(below < above, _ndtri_exp(below), -_ndtri_exp(above))
            z = torch.minimum(torch.maximum(z, low), high)
            # Φ(z) = (1 - u) Φ(a) + u Φ(b), differentiated at fixed u.
            square = 0.5 * z.square()
            weight_a = torch.where(finite_low, (log_v + square - 0.5 * a.square()).exp(), 0.0)
            weight_b = torch.where(finite_high, (log_u + square - 0.5 * b.square()).exp(), 0.0)
        z = z + weight_a * (a - a.detach()) + weight_b * (b - b.detach())
        return self.loc + self.scale * z

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        value = self.icdf(open_uniform(self.loc, self, sample_shape))
        clamped = torch.minimum(torch.maximum(value, self.low), self.high).detach()
        return value + (clamped - value.detach())

    def _edges(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return φ(a)/Z, φ(b)/Z and the same times a and b, zero for infinite bounds."""
        a, b, finite_low, finite_high = self._bounds()
        log_mass = self._log_mass() + _HALF_LOG_TWO_PI
        at_low = torch.where(finite_low, (-0.5 * a.square() - log_mass).exp(), 0.0)
        at_high = torch.where(finite_high, (-0.5 * b.square() - log_mass).exp(), 0.0)
        return at_low, at_high, a * at_low, b * at_high

    @property
    def mean(self) -> Tensor:
        at_low, at_high, _, _ = self._edges()
        return self.loc + self.scale * (at_low - at_high)

    @property
    def variance(self) -> Tensor:
        at_low, at_high, a_at_low, b_at_high = self._edges()
        shift = at_low - at_high
        return self.scale.square() * (1.0 + a_at_low - b_at_high - shift.square())


def _ndtri_exp(log_p: Tensor) -> Tensor:
    """Return z with log Φ(z) = ``log_p``, for ``log_p`` at most about log(1/2).

    Starts from the asymptotic tail expansion where ``exp(log_p)`` would lose digits, then takes Newton
    steps on log Φ, which is concave and nearly quadratic there.
    """
    tail = log_p < -5.0
    square = -2.0 * torch.where(tail, log_p, -5.0) - 2.0 * _HALF_LOG_TWO_PI
    start = -(square - square.log()).clamp(min=1.0).sqrt()
    z = torch.where(tail, start, ndtri(log_p.exp()))
    for _ in range(4):
        log_cdf = log_ndtr(z)
        slope = (-0.5 * z.square() - _HALF_LOG_TWO_PI - log_cdf).exp()
        z = torch.where(tail, z - (log_cdf - log_p) / slope, z)
    return z
