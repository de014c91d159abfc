"""Compute the covariance of Brownian motion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ember.contrib.gp.kernels.kernel import Kernel, positive
from ember.errors import message


class Brownian(Kernel):
    """Brownian motion from zero, in both directions: k(x, z) = variance · min(|x|, |z|), 0 across zero.

    :param input_dim: number of input features, 1.
    :param variance: initial value of the parameter, a scalar; by default 1.
    :param active_dims: which column of the inputs to read.
    :raises ValueError: for more features.
    """

    variance: Tensor

    def __init__(
        self, input_dim: int, variance: Tensor | None = None, active_dims: Sequence[int] | None = None
    ) -> None:
        if input_dim != 1:
            raise ValueError(message("Brownian motion has one input feature.", expected=1, actual=input_dim))
        super().__init__(input_dim, active_dims)
        self.variance = positive(variance)

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        if diag:
            return self.variance * self._slice_input(X)[:, 0].abs()
        left, right = self._inputs(X, Z)
        right = right.T
        one_side = torch.where(left.sign() == right.sign(), 1.0, 0.0)
        return self.variance * one_side * torch.minimum(left.abs(), right.abs())
