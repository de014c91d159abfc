"""Compute covariances that depend on the scaled distance of two inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ember.contrib.gp.kernels.kernel import Kernel, positive


class Isotropy(Kernel):
    """Base of kernels k(x, z) = variance · h(r), with the distance r = |(x − z) / lengthscale|.

    :param input_dim: number of input features.
    :param variance: initial value of the parameter, a scalar; by default 1.
    :param lengthscale: the same, a scalar or ``(input_dim,)``, one for each feature.
    :param active_dims: which columns of the inputs to read.
    """

    variance: Tensor
    lengthscale: Tensor

    def __init__(
        self,
        input_dim: int,
        variance: Tensor | None = None,
        lengthscale: Tensor | None = None,
        active_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_dim, active_dims)
        self.variance = positive(variance)
        self.lengthscale = positive(lengthscale)

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return variance · h(r), as :meth:`Kernel.forward`."""
        if diag:
            return self.variance * torch.ones_like(self._slice_input(X)[:, 0])
        return self.variance * self._profile(self._square_scaled_dist(X, Z))

    def _profile(self, squared: Tensor) -> Tensor:
        """Return h at distances whose squares are given."""
        raise NotImplementedError

    def _square_scaled_dist(self, X: Tensor, Z: Tensor | None = None) -> Tensor:
        """Return |(x − z) / lengthscale|²."""
        left, right = self._inputs(X, Z)
        left, right = left / self.lengthscale, right / self.lengthscale
        # From the differences: the expanded square would cancel for inputs that lie close together.
        return (left[:, None, :] - right[None, :, :]).square().sum(-1)

    def _scaled_dist(self, X: Tensor, Z: Tensor | None = None) -> Tensor:
        """Return |(x − z) / lengthscale|."""
        return distance(self._square_scaled_dist(X, Z))


def distance(squared: Tensor) -> Tensor:
    """Return the root, with gradient zero where the distance is zero."""
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


class RBF(Isotropy):
    """The squared exponential: h(r) = exp(−r² / 2).

    >>> import torch
    >>> RBF(input_dim=1)(torch.tensor([0.0, 1.0]))
    tensor([[1.0000, 0.6065],
            [0.6065, 1.0000]], grad_fn=<MulBackward0>)
    """

    def _profile(self, squared: Tensor) -> Tensor:
        return torch.exp(-0.5 * squared)


class RationalQuadratic(Isotropy):
    """A scale mixture of squared exponentials: h(r) = (1 + r² / 2α)^−α.

    :param scale_mixture: initial value of α, a scalar; by default 1.
    """

    scale_mixture: Tensor

    def __init__(
        self,
        input_dim: int,
        variance: Tensor | None = None,
        lengthscale: Tensor | None = None,
        scale_mixture: Tensor | None = None,
        active_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_dim, variance, lengthscale, active_dims)
        self.scale_mixture = positive(scale_mixture)

    def _profile(self, squared: Tensor) -> Tensor:
        alpha = self.scale_mixture
        return torch.exp(-alpha * torch.log1p(squared / (2.0 * alpha)))


class Exponential(Isotropy):
    """The Ornstein–Uhlenbeck covariance: h(r) = exp(−r)."""

    def _profile(self, squared: Tensor) -> Tensor:
        return torch.exp(-distance(squared))


class Matern32(Isotropy):
    """The Matérn covariance of smoothness 3/2: h(r) = (1 + √3 r) exp(−√3 r)."""

    def _profile(self, squared: Tensor) -> Tensor:
        r = math.sqrt(3.0) * distance(squared)
        return (1.0 + r) * torch.exp(-r)


class Matern52(Isotropy):
    """The Matérn covariance of smoothness 5/2: h(r) = (1 + √5 r + 5r²/3) exp(−√5 r)."""

    def _profile(self, squared: Tensor) -> Tensor:
        r = math.sqrt(5.0) * distance(squared)
        return (1.0 + r + (5.0 / 3.0) * squared) * torch.exp(-r)


class Cosine(Isotropy):
    """A wave: h(r) = cos(r). It is a covariance for one input feature only."""

    def _profile(self, squared: Tensor) -> Tensor:
        return torch.cos(distance(squared))
