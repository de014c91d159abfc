"""Model series as Gaussian processes that one correlated Wiener process drives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ember.contrib.timeseries.base import TimeSeriesModel, as_times, positive
from ember.contrib.timeseries.matern import values_of_states
from ember.distributions import constraints
from ember.errors import message
from ember.nn import PyroParam
from ember.nn.matern import MaternKernel
from ember.ops.tensors import block_diag_embed


class DependentMaternGP(TimeSeriesModel):
    """Gaussian processes with Matérn kernels of smoothness 3/2, dependent through what drives them.

    Process i obeys f'' + 2 λ_i f' + λ_i² f = w_i with λ_i = √3 / length_scale_i, for white noises w of the
    covariance W Wᵀ, where W is the parameter ``wiener_noise_tril``. Vandenberg-Rodes & Shahbaba (2015),
    Dependent Matérn processes for multivariate time series.

    :param nu: smoothness, 1.5.
    :param dt: time between observations.
    :param obs_dim: number of series, and of processes.
    :param linearly_coupled: whether a parameter ``obs_matrix`` mixes the processes, too.
    :param length_scale_init: positive, ``(obs_dim,)``, by default ones; a parameter.
    :param obs_noise_scale_init: standard deviations of the noise, ``(obs_dim,)``, by default 0.2; a
        parameter.
    :raises NotImplementedError: for another smoothness.
    :raises ValueError: for initial values of other shapes.
    """

    def __init__(
        self,
        nu: float = 1.5,
        dt: float = 1.0,
        obs_dim: int = 1,
        linearly_coupled: bool = False,
        length_scale_init: Tensor | None = None,
        obs_noise_scale_init: Tensor | None = None,
    ) -> None:
        if nu != 1.5:
            raise NotImplementedError(
                message("DependentMaternGP knows one smoothness only.", expected="nu=1.5", actual=nu)
            )
        super().__init__()
        self.nu, self.dt, self.obs_dim = nu, dt, obs_dim
        self.obs_noise_scale = positive("obs_noise_scale_init", obs_noise_scale_init, obs_dim, 0.2)
        tril = torch.eye(obs_dim) + 0.03 * torch.randn(obs_dim, obs_dim).tril(-1)
        self.wiener_noise_tril: Any = PyroParam(tril, constraint=constraints.lower_cholesky)
        self.linearly_coupled = linearly_coupled
        if linearly_coupled:
            self.obs_matrix = Parameter(0.3 * torch.randn(obs_dim, obs_dim))
        self.kernel = MaternKernel(nu, obs_dim, length_scale_init)
        # The scale is that of the Wiener process, so the kernel's own is no parameter.
        del self.kernel.kernel_scale
        self.kernel.kernel_scale = torch.ones(obs_dim)

    def _start_covariance(self) -> Tensor:
        """Solve the Lyapunov equation of the stationary covariance, in closed form for each pair.

        Block (i, j) is 2 (W Wᵀ)_ij / (λ_i + λ_j)³ · [[1, (λ_i − λ_j) / 2], [(λ_j − λ_i) / 2, λ_i λ_j]].
        """
        rate = math.sqrt(3.0) / self.kernel.length_scale
        left, right = rate[:, None], rate[None, :]
        wiener = self.wiener_noise_tril @ self.wiener_noise_tril.mT
        value = 2.0 * wiener / (left + right).pow(3)
        cross = 0.5 * (left - right)
        block = torch.stack(
            [
                torch.stack([value, cross * value], -1),
                torch.stack([-cross * value, left * right * value], -1),
            ],
            -2,
        )  # (i, j, 2, 2)
        size = 2 * self.obs_dim
        return block.permute(0, 2, 1, 3).reshape(size, size)

    def _step(self) -> tuple[Tensor, Tensor]:
        return self._over(self.kernel.transition_matrix(self.dt))

    def _steps(self, dts: Any) -> tuple[Tensor, Tensor]:
        return self._over(self.kernel.transition_matrix(as_times(dts)[:, None, None, None]))

    def _over(self, matrices: Tensor) -> tuple[Tensor, Tensor]:
        matrix, stationary = block_diag_embed(matrices), self._start_covariance()
        return matrix, stationary - matrix.mT @ stationary @ matrix

    def _obs_matrix(self) -> Tensor:
        if self.linearly_coupled:
            return values_of_states(self.obs_matrix, 2)
        return values_of_states(torch.eye(self.obs_dim, dtype=self.obs_noise_scale.dtype), 2)
