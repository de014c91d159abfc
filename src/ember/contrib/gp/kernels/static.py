"""Compute covariances that do not depend on where inputs lie."""

from __future__ import annotations

import torch
from torch import Tensor

from ember.contrib.gp.kernels.kernel import KernelWithVariance


class Constant(KernelWithVariance):
    """The covariance of constant functions: k(x, z) = variance."""

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        if diag:
            return self.variance * X.new_ones(X.shape[0])
        return self.variance * X.new_ones(X.shape[0], X.shape[0] if Z is None else Z.shape[0])


class WhiteNoise(KernelWithVariance):
    """The covariance of independent noise: ``variance`` for an input with itself, otherwise zero.

    Inputs are different points whenever ``Z`` is given.
    """

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        if diag:
            return self.variance * X.new_ones(X.shape[0])
        if Z is None:
            return self.variance * torch.eye(X.shape[0], dtype=X.dtype, device=X.device)
        return X.new_zeros(X.shape[0], Z.shape[0])
