"""Define Lévy's stable laws: draws by a formula that is smooth in the stability, densities by quadrature."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import message
from . import constraints
from .parameters import Parameter, several, table
from .stable_density import standard_log_density
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()


class Stable(TorchDistribution):
    """Lévy's alpha-stable laws, in the parametrisations S0 and S of Nolan; draws, but no density.

    For inference use :class:`StableWithLogProb`, or a reparameteriser such as
    :class:`~ember.infer.reparam.StableReparam`.

    :param stability: alpha, in (0, 2]; 2 is a Gaussian of variance ``2 scale²``, 1 the Cauchy law.
    :param skew: beta, in [-1, 1].
    :param scale: positive.
    :param loc: location; in "S", for alpha > 1, the mean.
    :param coords: "S0" (continuous in all parameters) or "S" (or "S1").
    :raises ValueError: for other coordinates.
    """

    arg_constraints = table(
        stability=constraints.interval(0.0, 2.0),
        skew=constraints.interval(-1.0, 1.0),
        scale=constraints.positive,
        loc=constraints.real,
    )
    support = constraints.real
    has_rsample = True
    parameter_dims = table(stability=0, skew=0, scale=0, loc=0)
    expand = expand_parameters

    def __init__(
        self,
        stability: Parameter,
        skew: Parameter,
        scale: Parameter = 1.0,
        loc: Parameter = 0.0,
        coords: str = "S0",
        validate_args: bool | None = None,
    ) -> None:
        if coords not in ("S", "S0", "S1"):
            raise ValueError(
                message("Unknown coords of a stable law.", expected="'S0' or 'S'", actual=repr(coords))
            )
        self.stability, self.skew, self.scale, self.loc = several(stability, skew, scale, loc)
        self.coords = coords
        TorchDistribution.__init__(self, self.loc.shape, _EMPTY, validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Say that the density has no formula (always raises)."""
        raise NotImplementedError(
            message(
                "Stable has no log_prob.",
                fix="use StableWithLogProb, or rewrite the site with StableReparam or LatentStableReparam",
            )
        )

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = self._extended_shape(sample_shape)
        noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device)
        angle = (torch.rand_like(noise) - 0.5) * math.pi
        return self.transform(angle, noise.exponential_())

    def transform(self, angle: Tensor, exponential: Tensor) -> Tensor:
        """Return the draw that comes of an angle in (-π/2, π/2) and a standard exponential number."""
        return self.loc + self.scale * (
            standard_stable(self.stability, self.skew, angle, exponential) + self.shift()
        )

    def shift(self) -> Tensor:
        """Return what a standard variable in these coordinates has added to its S0 form."""
        if self.coords == "S0":
            return torch.zeros_like(self.skew)
        at_one = self.stability == 1.0
        tangent = (0.5 * math.pi * torch.where(at_one, 0.5, self.stability)).tan()
        return torch.where(at_one, 0.0, self.skew * tangent)

    @property
    def mean(self) -> Tensor:
        """The mean, NaN for a stability of at most 1."""
        skew = 0.0 if self.coords != "S0" else self.skew
        mean = self.loc - self.scale * skew * (0.5 * math.pi * self.stability).tan()
        return torch.where(self.stability > 1.0, mean, math.nan)

    @property
    def variance(self) -> Tensor:
        """The variance, infinite but for the Gaussian."""
        return torch.where(self.stability == 2.0, 2.0 * self.scale.square(), math.inf)


class StableWithLogProb(Stable):
    """A :class:`Stable` law whose density is computed by numerical integration.

    The integral is that of Nolan (1997), Numerical calculation of stable densities and distribution
    functions; stabilities within 1e-6 of 1 are computed at that distance.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        standard = (value - self.loc) / self.scale - self.shift()
        return standard_log_density(standard, self.stability, self.skew) - self.scale.log()


def standard_stable(stability: Tensor, skew: Tensor, angle: Tensor, exponential: Tensor) -> Tensor:
    """Return a standard stable variable in S0 coordinates, differentiable in stability and skew.

    This is the formula of Chambers, Mallows & Stuck (1976), equation 2.3, with ε = 1 - α drawn out of every
    difference: no term is singular at α = 1.
    """
    rest = 1.0 - stability
    pole = skew * rest_over_tan(rest)  # ε β tan(πα/2)
    small = rest * angle
    sine_ratio = torch.sinc(small / math.pi)
    tangent = angle.tan()
    tiny = torch.finfo(angle.dtype).tiny
    base = (small.cos() + pole * angle * sine_ratio).clamp(min=tiny) / (angle.cos() * exponential).clamp(
        min=tiny
    )
    log = base.log()
    power = (rest / stability * log).exp()
    # (cos αV / cos V - 1) / ε
    bend = tangent * angle * sine_ratio - 0.5 * rest * (angle * torch.sinc(0.5 * small / math.pi)).square()
    slope = tangent * small.cos() - small.sin() + pole * bend
    return power * slope + pole * log / stability * expm1_ratio(rest / stability * log)


def rest_over_tan(rest: Tensor) -> Tensor:
    """Return ε / tan(πε/2), which is 2/π at 0."""
    half = 0.5 * math.pi * rest
    return 2.0 / math.pi * half.cos() / torch.sinc(half / math.pi)


def expm1_ratio(x: Tensor) -> Tensor:
    """Return (exp(x) - 1) / x, which is 1 at 0."""
    near = x.abs() < 1e-5
    return torch.where(near, 1.0 + 0.5 * x, torch.where(near, 1.0, x).expm1() / torch.where(near, 1.0, x))
