"""Compute covariances between the outputs of a linear model of coregionalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from ember.contrib.gp.kernels.kernel import Kernel, positive
from ember.errors import message


class Coregionalize(Kernel):
    """The covariance k(x, z) = x · (W Wᵀ + diagonal) z between outputs, given one-hot or by weights.

    Alvarez, Rosasco & Lawrence (2012), Kernels for vector-valued functions: a review, section 4.2.

    :param input_dim: number of outputs, the features of ``x``.
    :param rank: number of columns of W, by default ``input_dim``.
    :param components: initial value of the parameter W, ``(input_dim, rank)``, by default random.
    :param diagonal: initial value of the positive parameter, ``(input_dim,)``, by default halves.
    :param active_dims: which columns of the inputs to read.
    :raises ValueError: if the shapes disagree.
    """

    components: Tensor
    diagonal: Tensor

    def __init__(
        self,
        input_dim: int,
        rank: int | None = None,
        components: Tensor | None = None,
        diagonal: Tensor | None = None,
        active_dims: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_dim, active_dims)
        if components is None:
            rank = input_dim if rank is None else rank
            components = torch.randn(input_dim, rank)
        expected = (input_dim, components.shape[-1] if rank is None else rank)
        if components.shape != expected:
            raise ValueError(
                message("components has a wrong shape.", expected=expected, actual=tuple(components.shape))
            )
        diagonal = 0.5 * components.new_ones(input_dim) if diagonal is None else diagonal
        if diagonal.shape != (input_dim,):
            raise ValueError(
                message("diagonal has a wrong shape.", expected=(input_dim,), actual=tuple(diagonal.shape))
            )
        self.components = Parameter(components)
        self.diagonal = positive(diagonal)

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances, as :meth:`Kernel.forward`."""
        if diag:
            X = self._slice_input(X)
            return (X @ self.components).square().sum(-1) + (X.square() * self.diagonal).sum(-1)
        left, right = self._inputs(X, Z)
        shared = (left @ self.components) @ (right @ self.components).T
        return shared + (left * self.diagonal) @ right.T
