"""Model series as linear Gaussian systems whose matrices are learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ember.contrib.timeseries.base import TimeSeriesModel, positive, powers
from ember.contrib.timeseries.matern import values_of_states
from ember.nn import pyro_method
from ember.nn.matern import MaternKernel
from ember.ops.tensors import block_diag_embed


class GenericLGSSM(TimeSeriesModel):
    """A linear Gaussian state space model: z_t = z_{t-1} A + noise, x_t = z_t H + obs_loc + noise.

    Parameters are ``trans_matrix``, ``obs_matrix``, and the diagonals ``trans_noise_scale_sq``,
    ``init_noise_scale_sq`` and ``obs_noise_scale``.

    :param obs_dim: number of series.
    :param state_dim: number of states.
    :param obs_noise_scale_init: standard deviations of the noise, ``(obs_dim,)``, by default 0.2.
    :param learnable_observation_loc: whether the parameter ``obs_loc`` is added to the observations.
    :raises ValueError: if the initial value has another shape.
    """

    def __init__(
        self,
        obs_dim: int = 1,
        state_dim: int = 2,
        obs_noise_scale_init: Tensor | None = None,
        learnable_observation_loc: bool = False,
    ) -> None:
        super().__init__()
        self.obs_dim, self.state_dim = obs_dim, state_dim
        self.obs_noise_scale = positive("obs_noise_scale_init", obs_noise_scale_init, obs_dim, 0.2)
        self.trans_noise_scale_sq = positive("trans_noise_scale_sq", None, state_dim)
        self.trans_matrix = Parameter(torch.eye(state_dim) + 0.03 * torch.randn(state_dim, state_dim))
        self.obs_matrix = Parameter(0.3 * torch.randn(state_dim, obs_dim))
        self.init_noise_scale_sq = positive("init_noise_scale_sq", None, state_dim)
        self.obs_loc = Parameter(torch.zeros(obs_dim)) if learnable_observation_loc else None

    @pyro_method
    def forecast(self, targets: Tensor, N_timesteps: int) -> Any:
        """Return the distribution of the series at each of the next time steps.

        :param targets: ``(T, obs_dim)``.
        :param N_timesteps: number n of time steps.
        :return: a MultivariateNormal, ``(n,)`` and ``(obs_dim,)``.
        """
        return super().forecast(targets, N_timesteps)

    def _start_covariance(self) -> Tensor:
        return torch.diag_embed(self.init_noise_scale_sq)

    def _step(self) -> tuple[Tensor, Tensor]:
        return self.trans_matrix, torch.diag_embed(self.trans_noise_scale_sq)

    def _steps(self, dts: int) -> tuple[Tensor, Tensor]:
        return powers(*self._step(), dts)

    def _obs_matrix(self) -> Tensor:
        return self.obs_matrix

    def _obs_loc(self) -> Tensor:
        return super()._obs_loc() if self.obs_loc is None else self.obs_loc


class GenericLGSSMWithGPNoiseModel(TimeSeriesModel):
    """A linear Gaussian state space model whose observations have a Gaussian process added to each.

    The states z obey those equations of :class:`GenericLGSSM` with parameters ``z_trans_matrix`` and
    ``z_obs_matrix``; the processes have Matérn kernels, and time steps of length 1.

    :param obs_dim: number of series.
    :param state_dim: number of states z.
    :param nu: smoothness of the processes: 0.5, 1.5 or 2.5.
    :param obs_noise_scale_init: standard deviations of the noise, ``(obs_dim,)``, by default 0.2.
    :param length_scale_init: positive, ``(obs_dim,)``, by default ones; a parameter.
    :param kernel_scale_init: standard deviations, ``(obs_dim,)``, by default ones; a parameter.
    :param learnable_observation_loc: whether the parameter ``obs_loc`` is added to the observations.
    :raises ValueError: for another smoothness, or initial values of other shapes.
    """

    def __init__(
        self,
        obs_dim: int = 1,
        state_dim: int = 2,
        nu: float = 1.5,
        obs_noise_scale_init: Tensor | None = None,
        length_scale_init: Tensor | None = None,
        kernel_scale_init: Tensor | None = None,
        learnable_observation_loc: bool = False,
    ) -> None:
        super().__init__()
        self.obs_dim, self.state_dim, self.nu = obs_dim, state_dim, nu
        self.obs_noise_scale = positive("obs_noise_scale_init", obs_noise_scale_init, obs_dim, 0.2)
        self.kernel = MaternKernel(nu, obs_dim, length_scale_init, kernel_scale_init)
        self.trans_noise_scale_sq = positive("trans_noise_scale_sq", None, state_dim)
        self.z_trans_matrix = Parameter(torch.eye(state_dim) + 0.03 * torch.randn(state_dim, state_dim))
        self.z_obs_matrix = Parameter(0.3 * torch.randn(state_dim, obs_dim))
        self.init_noise_scale_sq = positive("init_noise_scale_sq", None, state_dim)
        self.obs_loc = Parameter(torch.zeros(obs_dim)) if learnable_observation_loc else None

    @pyro_method
    def forecast(self, targets: Tensor, N_timesteps: int) -> Any:
        """Return the distribution of the series at each of the next time steps.

        :param targets: ``(T, obs_dim)``.
        :param N_timesteps: number n of time steps.
        :return: a MultivariateNormal, ``(n,)`` and ``(obs_dim,)``.
        """
        return super().forecast(targets, N_timesteps)

    def _start_covariance(self) -> Tensor:
        process = block_diag_embed(self.kernel.stationary_covariance())
        return torch.block_diag(process, torch.diag_embed(self.init_noise_scale_sq))

    def _step(self) -> tuple[Tensor, Tensor]:
        matrix, noise = self.kernel.transition_matrix_and_covariance(1.0)
        return (
            torch.block_diag(block_diag_embed(matrix), self.z_trans_matrix),
            torch.block_diag(block_diag_embed(noise), torch.diag_embed(self.trans_noise_scale_sq)),
        )

    def _steps(self, dts: int) -> tuple[Tensor, Tensor]:
        return powers(*self._step(), dts)

    def _obs_matrix(self) -> Tensor:
        own = torch.eye(self.obs_dim, dtype=self.z_obs_matrix.dtype)
        return torch.cat([values_of_states(own, self.kernel.state_dim), self.z_obs_matrix])

    def _obs_loc(self) -> Tensor:
        return super()._obs_loc() if self.obs_loc is None else self.obs_loc
