"""Model series as Gaussian processes with Matérn kernels, alone or mixed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

import ember.distributions as dist
from ember.contrib.timeseries.base import TimeSeriesModel, as_times, positive
from ember.nn import pyro_method
from ember.nn.matern import MaternKernel
from ember.ops.tensors import block_diag_embed


class IndependentMaternGP(TimeSeriesModel):
    """Independent Gaussian processes with Matérn kernels, observed at equal times with noise.

    Hartikainen & Särkkä (2010), Kalman filtering and smoothing solutions to temporal Gaussian process
    regression models. Costs grow linearly with the series' length, and their depth with its logarithm.

    :param nu: smoothness: 0.5, 1.5 or 2.5.
    :param dt: time between observations.
    :param obs_dim: number of series.
    :param length_scale_init: positive, ``(obs_dim,)``, by default ones; a parameter.
    :param kernel_scale_init: standard deviations, ``(obs_dim,)``, by default ones; a parameter.
    :param obs_noise_scale_init: those of the noise, ``(obs_dim,)``, by default 0.2; a parameter.
    :raises ValueError: for another smoothness, or initial values of other shapes.

    >>> import torch
    >>> series = torch.arange(10.0).sin()[:, None]
    >>> gp = IndependentMaternGP(nu=2.5, obs_dim=1)
    >>> gp.log_prob(series).shape, gp.forecast(series, torch.tensor([0.5, 1.0])).mean.shape
    (torch.Size([1]), torch.Size([2, 1]))
    """

    def __init__(
        self,
        nu: float = 1.5,
        dt: float = 1.0,
        obs_dim: int = 1,
        length_scale_init: Tensor | None = None,
        kernel_scale_init: Tensor | None = None,
        obs_noise_scale_init: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.nu, self.dt, self.obs_dim = nu, dt, obs_dim
        self.obs_noise_scale = positive("obs_noise_scale_init", obs_noise_scale_init, obs_dim, 0.2)
        self.kernel = MaternKernel(nu, obs_dim, length_scale_init, kernel_scale_init)

    @pyro_method
    def forecast(self, targets: Tensor, dts: Any) -> Any:
        """Return the distribution of the series at times after its end.

        :param targets: ``(T, obs_dim)``.
        :param dts: the times, counted from the last observation, ``(n,)``.
        :return: a Normal, ``(n, obs_dim)``.
        """
        joint = super().forecast(targets, dts)
        return dist.Normal(joint.mean.squeeze(-1), joint.variance.squeeze(-1).sqrt())

    def _start_covariance(self) -> Tensor:
        return self.kernel.stationary_covariance()

    def _step(self) -> tuple[Tensor, Tensor]:
        return self.kernel.transition_matrix_and_covariance(self.dt)

    def _steps(self, dts: Any) -> tuple[Tensor, Tensor]:
        return self.kernel.transition_matrix_and_covariance(as_times(dts)[:, None, None, None])

    def _obs_matrix(self) -> Tensor:
        return torch.eye(self.kernel.state_dim, 1, dtype=self.obs_noise_scale.dtype)

    def _obs_scale(self) -> Tensor:
        return self.obs_noise_scale.unsqueeze(-1)

    def _observations(self, targets: Tensor) -> Tensor:
        return super()._observations(targets).mT.unsqueeze(-1)


class LinearlyCoupledMaternGP(TimeSeriesModel):
    """Series that are mixtures of independent Gaussian processes with Matérn kernels, with noise.

    :param nu: smoothness: 0.5, 1.5 or 2.5.
    :param dt: time between observations.
    :param obs_dim: number of series.
    :param num_gps: number of processes, mixed by the parameter ``A``, ``(num_gps, obs_dim)``.
    :param length_scale_init: positive, ``(num_gps,)``, by default ones; a parameter.
    :param kernel_scale_init: standard deviations, ``(num_gps,)``, by default ones; a parameter.
    :param obs_noise_scale_init: those of the noise, ``(obs_dim,)``, by default 0.2; a parameter.
    :raises ValueError: for another smoothness, or initial values of other shapes.
    """

    def __init__(
        self,
        nu: float = 1.5,
        dt: float = 1.0,
        obs_dim: int = 2,
        num_gps: int = 1,
        length_scale_init: Tensor | None = None,
        kernel_scale_init: Tensor | None = None,
        obs_noise_scale_init: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.nu, self.dt, self.obs_dim, self.num_gps = nu, dt, obs_dim, num_gps
        self.obs_noise_scale = positive("obs_noise_scale_init", obs_noise_scale_init, obs_dim, 0.2)
        self.A = Parameter(0.3 * torch.randn(num_gps, obs_dim))
        self.kernel = MaternKernel(nu, num_gps, length_scale_init, kernel_scale_init)

    def _start_covariance(self) -> Tensor:
        return block_diag_embed(self.kernel.stationary_covariance())

    def _step(self) -> tuple[Tensor, Tensor]:
        matrix, noise = self.kernel.transition_matrix_and_covariance(self.dt)
        return block_diag_embed(matrix), block_diag_embed(noise)

    def _steps(self, dts: Any) -> tuple[Tensor, Tensor]:
        times = as_times(dts)[:, None, None, None]
        matrix, noise = self.kernel.transition_matrix_and_covariance(times)
        return block_diag_embed(matrix), block_diag_embed(noise)

    def _obs_matrix(self) -> Tensor:
        return values_of_states(self.A, self.kernel.state_dim)


def values_of_states(mixing: Tensor, state_dim: int) -> Tensor:
    """Return the matrix that mixes the values of processes, the first entries of their states.

    :param mixing: ``(num_gps, obs_dim)``.
    :return: ``(num_gps * state_dim, obs_dim)``.
    """
    first = torch.eye(state_dim, 1, dtype=mixing.dtype, device=mixing.device)
    return (mixing.unsqueeze(1) * first).reshape(-1, mixing.shape[-1])
