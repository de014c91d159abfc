"""Write Gaussian processes with Matérn kernels as linear dynamical systems."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ember.distributions import constraints
from ember.errors import message
from ember.nn.attributes import PyroParam
from ember.nn.module import PyroModule


class MaternKernel(PyroModule):
    """The state-space form of independent univariate Gaussian processes with a Matérn kernel.

    The state is the process with its first ``nu - ½`` derivatives; matrices act from the right, as in
    GaussianHMM. Hartikainen & Särkkä (2010), Kalman filtering and smoothing solutions to temporal Gaussian
    process regression models.

    :param nu: smoothness: 0.5, 1.5 or 2.5.
    :param num_gps: number of processes.
    :param length_scale_init: positive, ``(num_gps,)``, by default ones; a parameter.
    :param kernel_scale_init: standard deviations, positive, ``(num_gps,)``, by default ones; a parameter.
    :raises ValueError: for another smoothness, or initial values of other shapes.
    """

    def __init__(
        self,
        nu: float = 1.5,
        num_gps: int = 1,
        length_scale_init: Tensor | None = None,
        kernel_scale_init: Tensor | None = None,
    ) -> None:
        super().__init__()
        if nu not in (0.5, 1.5, 2.5):
            raise ValueError(f"MaternKernel takes nu 0.5, 1.5 or 2.5, got {nu}")
        self.nu = nu
        self.state_dim = round(nu + 0.5)
        self.num_gps = num_gps
        for name, init in (("length_scale", length_scale_init), ("kernel_scale", kernel_scale_init)):
            value = torch.ones(num_gps) if init is None else init
            if value.shape != (num_gps,):
                raise ValueError(
                    message(f"{name}_init has a wrong shape.", expected=(num_gps,), actual=tuple(value.shape))
                )
            setattr(self, name, PyroParam(value, constraint=constraints.positive))

    def _rate(self) -> Tensor:
        """Return √(2 nu) / length scale, the decay of the process."""
        return math.sqrt(2.0 * self.nu) / self.length_scale

    def transition_matrix(self, dt: float | Tensor) -> Tensor:
        """Return the matrix that carries a state over a time ``dt``, ``(num_gps, state_dim, state_dim)``."""
        rate = self._rate()
        zero, one = torch.zeros_like(rate), torch.ones_like(rate)
        if self.state_dim == 1:
            rows = [[-rate]]
        elif self.state_dim == 2:
            rows = [[zero, one], [-rate.square(), -2.0 * rate]]
        else:
            rows = [[zero, one, zero], [zero, zero, one], [-rate.pow(3), -3.0 * rate.square(), -3.0 * rate]]
        feedback = torch.stack([torch.stack(row, -1) for row in rows], -2)
        return torch.matrix_exp(feedback * dt).mT

    def stationary_covariance(self) -> Tensor:
        """Return the covariance of a state long after the start, ``(num_gps, state_dim, state_dim)``."""
        rate, variance = self._rate(), self.kernel_scale.square()
        zero, one = torch.zeros_like(rate), torch.ones_like(rate)
        if self.state_dim == 1:
            rows = [[one]]
        elif self.state_dim == 2:
            rows = [[one, zero], [zero, rate.square()]]
        else:
            third = rate.square() / 3.0
            rows = [[one, zero, -third], [zero, third, zero], [-third, zero, rate.pow(4)]]
        return variance[:, None, None] * torch.stack([torch.stack(row, -1) for row in rows], -2)

    def process_covariance(self, A: Tensor) -> Tensor:
        """Return the covariance of the noise that keeps states stationary under a transition matrix."""
        stationary = self.stationary_covariance()
        return stationary - A.mT @ stationary @ A

    def transition_matrix_and_covariance(self, dt: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return the transition matrix over a time ``dt``, and the covariance of its noise."""
        matrix = self.transition_matrix(dt)
        return matrix, self.process_covariance(matrix)
