"""Define planar, radial and Sylvester flows: small changes of a vector with cheap determinants."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform
from torch.nn.functional import softplus

from .. import constraints
from .modules import FromNetwork, OwnParameters, TransformModule
from .reflections import reflect


class _OfVectors(Transform):
    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def _inverse(self, y: Tensor) -> Tensor:
        raise NotImplementedError(
            f"{type(self).__name__.strip('_')} has no inverse in closed form, so that it has the density of "
            "its own draws only; use a coupling or autoregressive transform to score other values"
        )


class _Planar(_OfVectors):
    """``y = x + û tanh(wᵀ x + b)`` (Rezende & Mohamed 2015, arXiv 1505.05770, eq. 10 and appendix A.1).

    :param bias: ``batch + (1,)``.
    :param u: ``batch + (D,)``.
    :param w: ``batch + (D,)``.
    """

    def __init__(self, bias: Tensor, u: Tensor, w: Tensor) -> None:
        super().__init__(cache_size=1)
        self.bias, self.w = bias, w
        # Invertible if and only if wᵀ û > -1.
        inner = (w * u).sum(-1, keepdim=True)
        self.u = u + (softplus(inner) - 1.0 - inner) * w / w.square().sum(-1, keepdim=True)

    def _activation(self, x: Tensor) -> Tensor:
        return torch.tanh((self.w * x).sum(-1, keepdim=True) + self.bias)

    def _call(self, x: Tensor) -> Tensor:
        return x + self.u * self._activation(x)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        slope = 1.0 - self._activation(x).square()
        return torch.log1p(slope.squeeze(-1) * (self.w * self.u).sum(-1))


class Planar(OwnParameters):
    """The planar flow ``y = x + u tanh(wᵀ x + b)`` (Rezende & Mohamed 2015, arXiv 1505.05770).

    It has no inverse in closed form: it scores its own draws only.

    :param input_dim: dimension D.
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.u = nn.Parameter(_small(input_dim))
        self.w = nn.Parameter(_small(input_dim))

    def given(self) -> Transform:
        """Return the transform with the present parameters."""
        return _Planar(self.bias, self.u, self.w)


class ConditionalPlanar(FromNetwork):
    """The planar flow whose parameters depend on a context.

    :param nn: a network from a context to (b, u, w), of sizes 1, D and D.
    """

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        return _Planar(*self.parameters_at(context))


class _Radial(_OfVectors):
    """``y = x + β (x − x₀) / (α + |x − x₀|)`` (Rezende & Mohamed 2015, eq. 14 and appendix A.2).

    :param center: ``batch + (D,)``.
    :param alpha_prime: ``batch + (1,)``; α is its softplus.
    :param beta_prime: ``batch + (1,)``; β is its softplus minus α.
    """

    def __init__(self, center: Tensor, alpha_prime: Tensor, beta_prime: Tensor) -> None:
        super().__init__(cache_size=1)
        self.center = center
        self.alpha = softplus(alpha_prime)
        self.beta = softplus(beta_prime) - self.alpha

    def _call(self, x: Tensor) -> Tensor:
        away = x - self.center
        return x + self.beta * away / (self.alpha + away.norm(dim=-1, keepdim=True))

    def _inverse(self, y: Tensor) -> Tensor:
        # With s the distance of y, the distance r of x solves r² + (α + β − s) r − α s = 0.
        away = y - self.center
        s = away.norm(dim=-1, keepdim=True)
        half = 0.5 * (self.alpha + self.beta - s)
        root = (half.square() + self.alpha * s).sqrt()
        r = torch.where(half > 0, self.alpha * s / (half + root), root - half)
        return self.center + away / (1.0 + self.beta / (self.alpha + r))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        r = (x - self.center).norm(dim=-1, keepdim=True)
        pull = self.beta / (self.alpha + r)
        along = torch.log1p(pull * self.alpha / (self.alpha + r))
        return ((x.shape[-1] - 1) * torch.log1p(pull) + along).squeeze(-1)


class Radial(OwnParameters):
    """The radial flow, towards a point or away from it (Rezende & Mohamed 2015, arXiv 1505.05770).

    :param input_dim: dimension D.
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.x0 = nn.Parameter(_small(input_dim))
        self.alpha_prime = nn.Parameter(torch.zeros(1))
        self.beta_prime = nn.Parameter(_small(1))

    def given(self) -> Transform:
        """Return the transform with the present parameters."""
        return _Radial(self.x0, self.alpha_prime, self.beta_prime)


class ConditionalRadial(FromNetwork):
    """The radial flow whose parameters depend on a context.

    :param nn: a network from a context to (x₀, α', β'), of sizes D, 1 and 1.
    """

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        return _Radial(*self.parameters_at(context))


class Sylvester(_OfVectors, TransformModule):
    """``y = x + Q R tanh(S Qᵀ x + b)``, Q orthogonal, R and S triangular (van den Berg et al. 2018).

    arXiv 1803.05649, eq. 8; Q is a product of Householder reflections. It scores its own draws only.

    :param input_dim: dimension D.
    :param count_transforms: number of reflections.
    """

    def __init__(self, input_dim: int, count_transforms: int = 1) -> None:
        super().__init__()
        self.R_dense = nn.Parameter(_small(input_dim, input_dim))
        self.S_dense = nn.Parameter(_small(input_dim, input_dim))
        # Diagonals in (-1, 1), so that the product of two is more than -1.
        self.R_diag = nn.Parameter(_small(input_dim))
        self.S_diag = nn.Parameter(_small(input_dim))
        self.b = nn.Parameter(_small(input_dim))
        self.reflections = nn.Parameter(_small(count_transforms, input_dim))

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rotated = reflect(x, self.reflections, reverse=True)
        upper = self.S_dense.triu(1) + torch.tanh(self.S_diag).diag_embed()
        other = self.R_dense.triu(1) + torch.tanh(self.R_diag).diag_embed()
        return torch.tanh(rotated @ upper.mT + self.b), other, upper

    def _call(self, x: Tensor) -> Tensor:
        activation, other, _ = self._parts(x)
        return x + reflect(activation @ other.mT, self.reflections)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log |det ∂y/∂x|, ``batch``, by Sylvester's identity."""
        activation, other, upper = self._parts(x)
        slope = 1.0 - activation.square()
        return torch.log1p(slope * other.diagonal() * upper.diagonal()).sum(-1)


def _small(*shape: int) -> Tensor:
    return torch.empty(shape).uniform_(-1.0, 1.0) / math.sqrt(shape[-1])


def planar_sizes(input_dim: int) -> list[Any]:
    """Return the sizes of a planar flow's parameters."""
    return [1, input_dim, input_dim]


def radial_sizes(input_dim: int) -> list[Any]:
    """Return the sizes of a radial flow's parameters."""
    return [input_dim, 1, 1]
