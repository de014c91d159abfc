"""Score and forecast series by the linear Gaussian state space model behind them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import ember.distributions as dist
from ember.distributions import constraints
from ember.errors import message
from ember.nn import PyroModule, PyroParam, pyro_method


class TimeSeriesModel(PyroModule):
    """Base of time series models, whose parameters are those of the module.

    A subclass describes a state space model: states z_t = z_{t-1} A + noise, observations x_t = z_t H +
    noise; matrices act from the right, as in GaussianHMM. Training maximises :meth:`log_prob`.
    """

    obs_dim: int
    obs_noise_scale: Tensor

    @pyro_method
    def get_dist(self, duration: int | None = None) -> Any:
        """Return the distribution of a series, a GaussianHMM.

        :param duration: number of time steps, which drawing from it needs.
        """
        # All but the start have a dim of time, of size 1: every step is alike.
        matrix, noise = (each.unsqueeze(-3) for each in self._step())
        loc, scale = (each.unsqueeze(-2) for each in (self._obs_loc(), self._obs_scale()))
        start = self._start_covariance()
        return dist.GaussianHMM(
            dist.MultivariateNormal(start.new_zeros(start.shape[:-1]), covariance_matrix=start),
            matrix,
            dist.MultivariateNormal(noise.new_zeros(noise.shape[:-1]), covariance_matrix=noise),
            self._obs_matrix(),
            dist.Normal(loc, scale).to_event(1),
            duration=duration,
        )

    @pyro_method
    def log_prob(self, targets: Tensor) -> Tensor:
        """Return the log density of a series.

        :param targets: ``(T, obs_dim)``.
        :raises ValueError: for another shape.
        """
        return self.get_dist().log_prob(self._observations(targets))

    @pyro_method
    def forecast(self, targets: Tensor, dts: Any) -> Any:
        """Return the distribution of the series at times after its end.

        :param targets: ``(T, obs_dim)``.
        :param dts: the times, counted from the last observation; or the number of time steps.
        :return: of ``n`` times and ``obs_dim`` dims, each time by itself.
        """
        final = self.get_dist().filter(self._observations(targets))
        matrix, noise = self._steps(dts)
        loc = (final.loc.unsqueeze(-2) @ matrix).squeeze(-2)
        covariance = matrix.mT @ final.covariance_matrix @ matrix + noise
        observe = self._obs_matrix()
        mean = (loc.unsqueeze(-2) @ observe).squeeze(-2) + self._obs_loc()
        spread = observe.mT @ covariance @ observe + torch.diag_embed(self._obs_scale().square())
        return dist.MultivariateNormal(mean, covariance_matrix=spread)

    # -- what subclasses describe --------------------------------------------------------------------------

    def _start_covariance(self) -> Tensor:
        """Return the covariance of the state before the first step."""
        raise NotImplementedError

    def _step(self) -> tuple[Tensor, Tensor]:
        """Return the matrix A of a time step, and the covariance of its noise."""
        raise NotImplementedError

    def _steps(self, dts: Any) -> tuple[Tensor, Tensor]:
        """Return the matrices that carry a state over several times, and the covariances of their noise."""
        raise NotImplementedError

    def _obs_matrix(self) -> Tensor:
        """Return the matrix H."""
        raise NotImplementedError

    def _obs_loc(self) -> Tensor:
        return torch.zeros_like(self._obs_scale())

    def _obs_scale(self) -> Tensor:
        return self.obs_noise_scale

    def _observations(self, targets: Tensor) -> Tensor:
        """Return a series as the distribution takes it."""
        if targets.dim() != 2 or targets.shape[-1] != self.obs_dim:
            raise ValueError(
                message(
                    f"A series for {type(self).__name__} has a wrong shape.",
                    expected=f"(T, {self.obs_dim})",
                    actual=tuple(targets.shape),
                )
            )
        return targets


def positive(name: str, initial: Tensor | None, size: int, default: float = 1.0) -> Any:
    """Return a positive parameter of the given size.

    :raises ValueError: if its initial value has another shape.
    """
    initial = torch.full((size,), default) if initial is None else initial
    if initial.shape != (size,):
        raise ValueError(message(f"{name} has a wrong shape.", expected=(size,), actual=tuple(initial.shape)))
    return PyroParam(initial, constraint=constraints.positive)


def as_times(dts: Any) -> Tensor:
    """Return times as a vector.

    :raises ValueError: if they have more than one dim.
    """
    times = torch.as_tensor(dts, dtype=None if isinstance(dts, Tensor) else torch.get_default_dtype())
    if times.dim() > 1:
        raise ValueError(
            message("Times of a forecast have a wrong shape.", expected="(n,)", actual=tuple(times.shape))
        )
    return times.reshape(-1)


def powers(matrix: Tensor, noise: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return the matrices, and the covariances of the noise, of 1, 2, …, ``steps`` time steps.

    :raises ValueError: if there is no step.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(
            message("The number of time steps of a forecast is wrong.", expected="an int > 0", actual=steps)
        )
    matrices, noises = [matrix], [noise]
    for _ in range(steps - 1):
        noises.append(matrix.mT @ noises[-1] @ matrix + noise)
        matrices.append(matrices[-1] @ matrix)
    return torch.stack(matrices), torch.stack(noises)
