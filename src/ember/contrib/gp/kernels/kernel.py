"""Say what a covariance function is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ember.contrib.gp.parameterized import Parameterized
from ember.distributions import constraints
from ember.errors import message
from ember.nn import PyroParam


class Kernel(Parameterized):
    """Base of covariance functions; a subclass defines :meth:`forward`.

    Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, chapter 4.

    :param input_dim: number of input features that the kernel reads.
    :param active_dims: which columns of the inputs these are, by default the first ``input_dim`` ones.
    :raises ValueError: if there are not ``input_dim`` active dims.
    """

    def __init__(self, input_dim: int, active_dims: Sequence[int] | None = None) -> None:
        super().__init__()
        active_dims = list(range(input_dim)) if active_dims is None else list(active_dims)
        if len(active_dims) != input_dim:
            raise ValueError(
                message(
                    "input_dim and active_dims do not agree.",
                    expected=f"{input_dim} active dims",
                    actual=active_dims,
                )
            )
        self.input_dim = input_dim
        self.active_dims = active_dims

    def forward(self, X: Tensor, Z: Tensor | None = None, diag: bool = False) -> Tensor:
        """Return the covariances of the process between inputs.

        :param X: inputs, ``(N, features)``, or ``(N,)`` for one feature.
        :param Z: other inputs, by default ``X`` itself.
        :param diag: whether to return the variances at ``X`` alone, ``(N,)``.
        :return: ``(N, number of Z)``.
        """
        raise NotImplementedError

    def _slice_input(self, X: Tensor) -> Tensor:
        """Return the active columns of inputs, ``(N, input_dim)``.

        :raises ValueError: for inputs that have neither one nor two dims.
        """
        if X.dim() == 1:
            return X.unsqueeze(1)
        if X.dim() == 2:
            if self.active_dims == list(range(X.shape[1])):
                return X
            return X[:, self.active_dims]
        raise ValueError(
            message(
                "Inputs of a kernel have a wrong shape.",
                expected="(N,) or (N, features)",
                actual=tuple(X.shape),
            )
        )

    def _inputs(self, X: Tensor, Z: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the active columns of both inputs.

        :raises ValueError: if their numbers of features differ.
        """
        left = self._slice_input(X)
        right = left if Z is None else self._slice_input(Z)
        if left.shape[1] != right.shape[1]:
            raise ValueError(
                message(
                    "Inputs of a kernel differ in their number of features.",
                    expected=tuple(left.shape),
                    actual=tuple(right.shape),
                )
            )
        return left, right


def positive(value: Tensor | None) -> Any:
    """Return a positive parameter, by default one."""
    return PyroParam(torch.tensor(1.0) if value is None else value, constraint=constraints.positive)


class KernelWithVariance(Kernel):
    """Base of kernels with a variance as parameter.

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
