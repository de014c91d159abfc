"""Compute covariances that do not depend on where inputs lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ember.contrib.gp.kernels.kernel import Kernel, positive


class Constant(Kernel):
    """The covariance of constant functions: k(x, z) = variance.

    :param input_dim: number of input features.
    :param variance: initial value of the parameter, a scalar; by default 1.
    :param active_dims: which columns of the inputs to read.
    """

    variance: Tensor

    def __init__(
        self, input_dim: int, variance: Tensor | None = None, active_dims: Sequence[int] | None = None
    ) -> None:
        super().__init__(input_dim, active_dims)
        self.variance = positive(variance)

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        if diag:
            return self.variance * X.new_ones(X.shape[0])
        return self.variance * X.new_ones(X.shape[0], X.shape[0] if Z is None else Z.shape[0])


class WhiteNoise(Kernel):
    """The covariance of independent noise: ``variance`` for an input with itself, otherwise zero.

    Inputs are different points whenever ``Z`` is given.

    :param input_dim: number of input features.
    :param variance: initial value of the parameter, a scalar; by default 1.
    :param active_dims: which columns of the inputs to read.
    """

    variance: Tensor

    def __init__(
        self, input_dim: int, variance: Tensor | None = None, active_dims: Sequence[int] | None = None
    ) -> None:
        super().__init__(input_dim, active_dims)
        self.variance = positive(variance)

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        if diag:
            return self.variance * X.new_ones(X.shape[0])
        if Z is None:
            return self.variance * torch.eye(X.shape[0], dtype=X.dtype, device=X.device)
        return X.new_zeros(X.shape[0], Z.shape[0])
