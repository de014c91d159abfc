"""Compute covariances that depend on the dot product of two inputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ember.contrib.gp.kernels.kernel import KernelWithVariance, positive
from ember.errors import message


class DotProduct(KernelWithVariance):
    """Base of kernels of x · z."""

    def _dot_product(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return x · z of all pairs, or x · x."""
        if diag:
            return self._slice_input(X).square().sum(-1)
        left, right = self._inputs(X, Z)
        return left @ right.T


class Linear(DotProduct):
    """The covariance of linear functions: k(x, z) = x · (variance z).

    :param variance: a scalar, or ``(input_dim,)``, one for each feature.
    """

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        if diag:
            return (self._slice_input(X).square() * self.variance).sum(-1)
        left, right = self._inputs(X, Z)
        return (left * self.variance) @ right.T


class Polynomial(DotProduct):
    """The covariance of polynomials: k(x, z) = variance · (bias + x · z)^degree.

    :param bias: initial value of the parameter, a scalar; by default 1.
    :param degree: a positive integer.
    :raises ValueError: for another degree.
    """

    bias: Tensor

    def __init__(
        self,
        input_dim: int,
        variance: Tensor | None = None,
        bias: Tensor | None = None,
        degree: int = 1,
        active_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_dim, variance, active_dims)
        if not isinstance(degree, int) or degree < 1:
            raise ValueError(
                message(
                    "The degree of a polynomial kernel is wrong.", expected="an integer > 0", actual=degree
                )
            )
        self.bias = positive(bias)
        self.degree = degree

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        return self.variance * (self.bias + self._dot_product(X, Z, diag)) ** self.degree
