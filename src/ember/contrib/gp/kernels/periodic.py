"""Compute the covariance of periodic functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ember.contrib.gp.kernels.kernel import Kernel, positive


class Periodic(Kernel):
    """The covariance of periodic functions: variance · exp(−2 |sin(π (x − z) / period) / lengthscale|²).

    MacKay (1998), Introduction to Gaussian processes, equation 47; Rasmussen & Williams (2006), equation
    4.31.

    :param input_dim: number of input features.
    :param variance: initial value of the parameter, a scalar; by default 1.
    :param lengthscale: the same, a scalar or ``(input_dim,)``.
    :param period: the same, a scalar or ``(input_dim,)``.
    :param active_dims: which columns of the inputs to read.
    """

    variance: Tensor
    lengthscale: Tensor
    period: Tensor

    def __init__(
        self,
        input_dim: int,
        variance: Tensor | None = None,
        lengthscale: Tensor | None = None,
        period: Tensor | None = None,
        active_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_dim, active_dims)
        self.variance = positive(variance)
        self.lengthscale = positive(lengthscale)
        self.period = positive(period)

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        if diag:
            return self.variance * torch.ones_like(self._slice_input(X)[:, 0])
        left, right = self._inputs(X, Z)
        phase = math.pi * (left[:, None, :] - right[None, :, :]) / self.period
        return self.variance * torch.exp(-2.0 * (torch.sin(phase) / self.lengthscale).square().sum(-1))
