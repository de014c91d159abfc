"""Define families on circles and spheres."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import constraints
from .parameters import Parameter, pair, table
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()


def _draw_angles(concentration: Tensor) -> Tensor:
    """Draw from von Mises distributions around zero."""
    angles = torch.distributions.VonMises(torch.zeros_like(concentration), concentration, validate_args=False)
    return torch.distributions.VonMises.sample(angles)


# An operation of its own, since torch's sampler loops until all are accepted, which a capture cannot record.
_library = torch.library.Library("ember", "FRAGMENT")
_library.define("von_mises(Tensor concentration) -> Tensor", tags=torch.Tag.nondeterministic_seeded)
_library.impl("von_mises", _draw_angles, "CompositeExplicitAutograd")


class VonMises(torch.distributions.VonMises, TorchDistribution):
    """Angles around ``loc`` with ``concentration`` (positive), a Gaussian wrapped on the circle nearly."""

    parameter_dims = table(loc=0, concentration=0, _loc=0, _concentration=0, _proposal_r=0)
    expand = expand_parameters

    def __init__(self, loc: Parameter, concentration: Parameter, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = pair(loc, concentration)
        TorchDistribution.__init__(self, self.loc.shape, _EMPTY, validate_args)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw angles between -π and π."""
        shape = self._extended_shape(torch.Size(sample_shape))
        angles = torch.ops.ember.von_mises(self.concentration.expand(shape))
        return (angles + self.loc + math.pi) % (2.0 * math.pi) - math.pi

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        k = self.concentration
        # cos - 1 as -2 sin², and the scaled Bessel function: exact for large concentrations.
        power = -2.0 * k * (0.5 * (value - self.loc)).sin().square()
        return power - math.log(2.0 * math.pi) - torch.special.i0e(k).log()


class ProjectedNormal(TorchDistribution):
    """The direction of a Gaussian vector with mean ``concentration`` and identity covariance.

    ``log_prob`` is finite, with gradients, at zero concentration too: the uniform distribution.

    :param concentration: real vector of at least two entries along the last dim.
    """

    arg_constraints = table(concentration=constraints.real_vector)
    support = constraints.sphere
    has_rsample = True
    parameter_dims = table(concentration=1)
    expand = expand_parameters

    def __init__(self, concentration: Tensor, *, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1 or concentration.shape[-1] < 2:
            raise ValueError(
                f"ProjectedNormal takes vectors of two or more entries, got {tuple(concentration.shape)}"
            )
        self.concentration = concentration
        shape = concentration.shape
        TorchDistribution.__init__(self, shape[:-1], shape[-1:], validate_args)

    @property
    def mean(self) -> Tensor:
        """Direction of the concentration (the mean direction, not the mean vector)."""
        return _direction(self.concentration)

    @property
    def mode(self) -> Tensor:
        return _direction(self.concentration)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        c = self.concentration
        noise = torch.empty(self._extended_shape(sample_shape), dtype=c.dtype, device=c.device).normal_()
        return _direction(c + noise)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        c, n = self.concentration, self._event_shape[0]
        along = (value * c).sum(-1)
        across = 0.5 * (c - value * along.unsqueeze(-1)).square().sum(-1)
        return _log_radial_integral(along, n - 1) - across - 0.5 * n * math.log(2.0 * math.pi)


class VonMises3D(TorchDistribution):
    """Directions on the sphere around that of ``concentration``, whose length says how closely.

    Also known as the Fisher distribution; zero concentration gives the uniform one.

    :param concentration: real vector of three entries along the last dim.
    """

    arg_constraints = table(concentration=constraints.real_vector)
    support = constraints.sphere
    has_rsample = True
    parameter_dims = table(concentration=1)
    expand = expand_parameters

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1 or concentration.shape[-1] != 3:
            raise ValueError(f"VonMises3D takes vectors of three entries, got {tuple(concentration.shape)}")
        self.concentration = concentration
        shape = concentration.shape
        TorchDistribution.__init__(self, shape[:-1], shape[-1:], validate_args)

    def _length(self) -> Tensor:
        smallest = torch.finfo(self.concentration.dtype).eps
        return (self.concentration.square().sum(-1) + smallest**2).sqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        k = self._length()
        # log(k / (4π sinh k)), with the exponential drawn out.
        normalizer = k + math.log(4.0 * math.pi) + (-torch.expm1(-2.0 * k) / (2.0 * k)).log()
        return (self.concentration * value).sum(-1) - normalizer

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw the cosine by its inverse distribution function, and a uniform direction around the axis."""
        shape = self._extended_shape(sample_shape)
        k, axis = self._length(), _direction(self.concentration)
        noise = torch.empty(shape, dtype=axis.dtype, device=axis.device)
        share = torch.rand_like(noise[..., 0])
        cosine = 1.0 + torch.log1p((1.0 - share) * torch.expm1(-2.0 * k)) / k
        across = noise.normal_() - (noise * axis).sum(-1, keepdim=True) * axis
        sine = (1.0 - cosine.square()).clamp(min=torch.finfo(axis.dtype).tiny).sqrt()
        # The sum is of unit length, but for rounding.
        return _direction(cosine.unsqueeze(-1) * axis + sine.unsqueeze(-1) * _direction(across))


def _direction(x: Tensor) -> Tensor:
    norm = x.norm(dim=-1, keepdim=True)
    first = torch.zeros_like(x)
    first[..., 0] = 1.0
    return torch.where(norm > 0, x / norm.clamp(min=torch.finfo(x.dtype).tiny), first)


def _log_radial_integral(t: Tensor, power: int) -> Tensor:
    """Return log ∫₀^∞ r^power exp(-(r - t)²/2) dr, by parts from power 0.

    J(n) = t J(n - 1) + (n - 1) J(n - 2), with J(0) = √(2π) Φ(t) and J(1) = exp(-t²/2) + t J(0); for
    negative t everything is divided by exp(-t²/2), which leaves scaled complementary error functions.
    """
    positive = t > 0
    right = torch.where(positive, t, 1.0)
    left = torch.where(positive, -1.0, t)
    half = (-0.5 * right.square()).exp()
    results = []
    root = math.sqrt(0.5 * math.pi)
    for x, edge, start in (
        (right, half, 2.0 * root * torch.special.ndtr(right)),
        (left, torch.ones_like(left), root * torch.special.erfcx(-left * math.sqrt(0.5))),
    ):
        older, newer = start, edge + x * start
        for n in range(2, power + 1):
            older, newer = newer, x * newer + (n - 1) * older
        results.append(newer.log())
    return torch.where(positive, results[0], results[1] - 0.5 * left.square())
