"""Define families on the torus, pairs of angles or more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import message
from . import constraints
from .directional import VonMises
from .parameters import several, table
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()
_ORDERS = 50  # terms of the series of the normaliser
_BINS = 256  # of the envelope of the first angle's density


class SineBivariateVonMises(TorchDistribution):
    """Two dependent angles (φ, ψ): the sine model of Singh, Hnizdo & Demchuk (2002).

    The density is proportional to exp(κ₁ cos(φ - μ) + κ₂ cos(ψ - ν) + ρ sin(φ - μ) sin(ψ - ν)).

    :param phi_loc: μ; all parameters are of the batch shape.
    :param psi_loc: ν.
    :param phi_concentration: κ₁, positive.
    :param psi_concentration: κ₂, positive.
    :param correlation: ρ; the density has one mode if ρ² < κ₁ κ₂.
    :param weighted_correlation: ρ / √(κ₁ κ₂), in place of ``correlation``.
    :raises ValueError: unless exactly one of the correlations is given.
    """

    arg_constraints = table(
        phi_loc=constraints.real,
        psi_loc=constraints.real,
        phi_concentration=constraints.positive,
        psi_concentration=constraints.positive,
        correlation=constraints.real,
    )
    support = constraints.real_vector
    parameter_dims = table(phi_loc=0, psi_loc=0, phi_concentration=0, psi_concentration=0, correlation=0)
    expand = expand_parameters

    def __init__(
        self,
        phi_loc: Tensor,
        psi_loc: Tensor,
        phi_concentration: Tensor,
        psi_concentration: Tensor,
        correlation: Tensor | None = None,
        weighted_correlation: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if (correlation is None) == (weighted_correlation is None):
            raise ValueError(
                message(
                    "SineBivariateVonMises takes one correlation.",
                    expected="either correlation or weighted_correlation",
                    actual="none" if correlation is None else "both",
                )
            )
        given = weighted_correlation if correlation is None else correlation
        self.phi_loc, self.psi_loc, self.phi_concentration, self.psi_concentration, given = several(
            phi_loc, psi_loc, phi_concentration, psi_concentration, given
        )
        if correlation is None:
            given = given * (self.phi_concentration * self.psi_concentration).sqrt()
        self.correlation = given
        TorchDistribution.__init__(self, self.phi_loc.shape, torch.Size((2,)), validate_args)

    @property
    def norm_const(self) -> Tensor:
        """Logarithm of the normaliser, by the series of Singh, Hnizdo & Demchuk (2002), equation 5."""
        k1, k2 = self.phi_concentration, self.psi_concentration
        tiny = torch.finfo(k1.dtype).tiny
        log_ratio = (self.correlation.square() / (4.0 * k1 * k2)).clamp(min=tiny).log()
        orders = torch.arange(_ORDERS, dtype=k1.dtype, device=k1.device)
        log_binomial = (2.0 * orders + 1.0).lgamma() - 2.0 * (orders + 1.0).lgamma()
        terms = log_binomial + orders * log_ratio.unsqueeze(-1)
        terms = terms + log_bessel(_ORDERS, k1) + log_bessel(_ORDERS, k2)
        return 2.0 * math.log(2.0 * math.pi) + terms.logsumexp(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        phi, psi = value[..., 0] - self.phi_loc, value[..., 1] - self.psi_loc
        power = self.phi_concentration * phi.cos() + self.psi_concentration * psi.cos()
        return power + self.correlation * phi.sin() * psi.sin() - self.norm_const

    @property
    def mean(self) -> Tensor:
        """The mean directions."""
        return torch.stack([self.phi_loc, self.psi_loc], -1)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw φ by rejection from a piecewise constant envelope, and ψ given φ, which is von Mises."""
        shape = torch.Size(sample_shape) + self._batch_shape
        phi = self._draw_first(shape)
        across = self.correlation * phi.sin()
        concentration = (self.psi_concentration.square() + across.square()).sqrt()
        psi = VonMises(
            torch.atan2(across, self.psi_concentration), concentration, validate_args=False
        ).sample()
        angles = torch.stack([self.phi_loc + phi, self.psi_loc + psi], -1)
        return (angles + math.pi) % (2.0 * math.pi) - math.pi

    def _log_first(self, phi: Tensor) -> Tensor:
        """Return the logarithm of the marginal density of φ - μ, but for a constant."""
        across = (self.psi_concentration.square() + (self.correlation * phi.sin()).square()).sqrt()
        return self.phi_concentration * phi.cos() + torch.special.i0e(across).log() + across

    def _draw_first(self, shape: torch.Size) -> Tensor:
        like = self.phi_loc
        width = 2.0 * math.pi / _BINS
        edges = torch.linspace(-math.pi, math.pi, _BINS + 1, dtype=like.dtype, device=like.device)
        middles = (edges[:-1] + 0.5 * width).reshape((_BINS,) + (1,) * like.dim())
        # The slope of the log density is at most κ₁ + |ρ|.
        slack = 0.5 * width * (self.phi_concentration + self.correlation.abs())
        heights = (self._log_first(middles) + slack).movedim(0, -1).expand((*shape, _BINS))
        choice = torch.distributions.Categorical(logits=heights, validate_args=False)
        phi = torch.zeros(shape, dtype=like.dtype, device=like.device)
        open_ = torch.ones(shape, dtype=torch.bool, device=like.device)
        while bool(open_.any()):
            which = choice.sample()
            proposed = edges[which] + width * torch.rand_like(phi)
            bound = heights.gather(-1, which.unsqueeze(-1)).squeeze(-1)
            taken = open_ & (torch.rand_like(phi).log() < self._log_first(proposed) - bound)
            phi, open_ = torch.where(taken, proposed, phi), open_ & ~taken
        return phi


def log_bessel(orders: int, x: Tensor) -> Tensor:
    """Return log I_0(x), …, log I_{orders - 1}(x) of positive x along a new last dim.

    Ratios of neighbours come from their continued fraction, evaluated from above (Gautschi 1967).
    """
    ratio = torch.zeros_like(x)
    ratios = []
    for n in range(orders + 40, 0, -1):
        ratio = x / (2.0 * n + x * ratio)
        if n < orders:
            ratios.append(ratio)
    first = torch.special.i0e(x).log() + x
    if not ratios:
        return first.unsqueeze(-1)
    tiny = torch.finfo(x.dtype).tiny
    logs = torch.stack(ratios[::-1], -1).clamp(min=tiny).log().cumsum(-1)
    return first.unsqueeze(-1) + torch.nn.functional.pad(logs, (1, 0))


class SineSkewed(TorchDistribution):
    """A symmetric distribution on the torus, skewed: its density times 1 + Σ skewness sin(value - loc).

    Ameijeiras-Alonso & Ley (2021), Sine-skewed toroidal distributions and their application in protein
    bioinformatics.

    :param base_dist: a distribution over vectors of angles, symmetric about its ``mean``.
    :param skewness: in [-1, 1], of the event shape, with absolute values that sum up to at most 1.
    """

    arg_constraints = table(skewness=constraints.independent(constraints.interval(-1.0, 1.0), 1))
    support = constraints.real_vector
    parameter_dims = table(base_dist=0, skewness=1)
    expand = expand_parameters

    def __init__(self, base_dist: Any, skewness: Tensor, validate_args: bool | None = None) -> None:
        if len(base_dist.event_shape) != 1 or skewness.shape[-1:] != base_dist.event_shape:
            raise ValueError(
                message(
                    "SineSkewed takes a base over vectors, and one skewness for each angle.",
                    expected=f"skewness (..., n) for the event_shape (n,) = {tuple(base_dist.event_shape)}",
                    actual=f"skewness {tuple(skewness.shape)}",
                )
            )
        batch = torch.broadcast_shapes(base_dist.batch_shape, skewness.shape[:-1])
        self.base_dist = base_dist.expand(batch)
        self.skewness = skewness.expand(batch + skewness.shape[-1:])
        TorchDistribution.__init__(self, batch, base_dist.event_shape, validate_args)
        if self._validate_args and bool((skewness.abs().sum(-1) > 1.0).any()):
            raise ValueError(
                message(
                    "Expected parameter skewness of SineSkewed to have absolute values of sum at most 1.",
                    actual=f"{skewness.abs().sum(-1).max().item():g}",
                )
            )

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.base_dist.log_prob(value) + self._tilt(value).log1p()

    def _tilt(self, value: Tensor) -> Tensor:
        return (self.skewness * (value - self.base_dist.mean).sin()).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw from the base, and mirror the draw with the probability that the skewing asks for."""
        value = self.base_dist.sample(sample_shape)
        tilt = self._tilt(value)
        kept = torch.rand_like(tilt) < 0.5 * (1.0 + tilt)
        mirrored = 2.0 * self.base_dist.mean - value
        chosen = torch.where(kept.unsqueeze(-1), value, mirrored)
        return (chosen + math.pi) % (2.0 * math.pi) - math.pi
