"""Say what a Gaussian process model is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

import ember.distributions as dist
from ember.contrib.gp.kernels import Kernel
from ember.contrib.gp.parameterized import Parameterized
from ember.errors import message

MeanFunction = Callable[[Tensor], Tensor]


class GPModel(Parameterized):
    """Base of Gaussian process models: data, a kernel and a mean function.

    A subclass has methods :meth:`model` and :meth:`guide`, which SVI, MCMC and
    :func:`~ember.contrib.gp.util.train` take, and gives predictions when it is called.

    :param X: inputs, ``(N, features)``, or ``(N,)`` for one feature.
    :param y: outputs, ``(…, N)``, or None for a model of the process alone.
    :param kernel: the covariance function.
    :param mean_function: gives the mean at inputs, ``(N,)``, or ``latent_shape + (N,)``; by default zero.
    :param jitter: added to the diagonal of the kernel's matrix, for the sake of its Cholesky factor.
    :raises ValueError: if X and y do not have the same number of points.
    """

    X: Any

    def __init__(
        self,
        X: Tensor,
        y: Tensor | None,
        kernel: Kernel,
        mean_function: MeanFunction | None = None,
        jitter: float = 1e-6,
    ) -> None:
        super().__init__()
        self.set_data(X, y)
        self.kernel = kernel
        self.mean_function = zero_mean if mean_function is None else mean_function
        self.jitter = jitter

    def model(self) -> Any:
        """Run the model: what is random is drawn, the outputs are observed."""
        raise NotImplementedError

    def guide(self) -> Any:
        """Run the guide of what is random in the model."""
        raise NotImplementedError

    def forward(self, Xnew: Tensor, full_cov: bool = False) -> tuple[Tensor, Tensor]:
        """Return mean and (co)variance of the process at new inputs, given the outputs.

        :param Xnew: ``(M, features)``, or ``(M,)``, as X.
        :param full_cov: whether to return covariances, or variances.
        :return: ``latent_shape + (M,)``, and ``latent_shape + (M, M)`` or ``latent_shape + (M,)``.
        """
        raise NotImplementedError

    def set_data(self, X: Tensor, y: Tensor | None = None) -> None:
        """Exchange inputs and outputs, for instance for a minibatch or a sequential design.

        :param X: inputs.
        :param y: outputs, whose last dim is that of the points.
        :raises ValueError: if the numbers of points differ, or y is no tensor.
        """
        if y is not None:
            if not isinstance(y, Tensor):
                raise ValueError(
                    message("Outputs of a model are wrong.", expected="a tensor or None", actual=type(y))
                )
            if X.shape[0] != y.shape[-1]:
                raise ValueError(
                    message(
                        "Inputs and outputs do not have the same number of points.",
                        expected=f"y of shape (…, {X.shape[0]})",
                        actual=tuple(y.shape),
                    )
                )
        if "X" in self.__dict__.get("_parameters", {}) and not isinstance(X, Parameter):
            del self.X  # or it would be copied into the parameter
        self.X = X
        self.y = y

    def _check_Xnew_shape(self, Xnew: Tensor) -> None:
        """Refuse new inputs that are not of the form of the old ones.

        :raises ValueError: naming both shapes.
        """
        if Xnew.dim() != self.X.dim() or Xnew.shape[1:] != self.X.shape[1:]:
            raise ValueError(
                message(
                    "New inputs do not have the features of those in the model.",
                    expected=("M", *self.X.shape[1:]),
                    actual=tuple(Xnew.shape),
                )
            )


def zero_mean(X: Tensor) -> Tensor:
    """Return zeros for inputs."""
    return X.new_zeros(X.shape[0])


def gaussian_event(loc: Tensor, scale_tril: Tensor) -> Any:
    """Return a Gaussian whose latent dims belong to the event."""
    gaussian = dist.MultivariateNormal(loc, scale_tril=scale_tril)
    return gaussian.to_event(len(gaussian.batch_shape))


def add_noise(covariance: Tensor, noise: Tensor, full_cov: bool) -> Tensor:
    """Return variances, or covariances, of noisy values."""
    if not full_cov:
        return covariance + noise
    return covariance + noise * torch.eye(covariance.shape[-1], dtype=covariance.dtype)


def centred(y: Tensor | None, mean: Tensor) -> Tensor:
    """Return outputs without their mean.

    :raises ValueError: if there are no outputs.
    """
    if y is None:
        raise ValueError(
            message(
                "A model without outputs makes no predictions.",
                expected="y of shape (…, N)",
                fix="give the model its outputs: set_data(X, y)",
            )
        )
    return y - mean
