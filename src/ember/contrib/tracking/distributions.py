"""Score series of positions by an extended Kalman filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import ember.distributions as dist
from ember.contrib.tracking.dynamic_models import DifferentiableDynamicModel
from ember.contrib.tracking.extended_kalman_filter import EKFState
from ember.contrib.tracking.measurements import PositionMeasurement

_EMPTY = torch.Size()


class EKFDistribution(dist.TorchDistribution):
    """The distribution of a moving object's measured positions, of event shape ``(time_steps, positions)``.

    :param x0: mean of the state at the first measurement, before it, ``(dimension,)``.
    :param P0: its covariance.
    :param dynamic_model: how the state moves.
    :param measurement_cov: covariance of the noise of positions, ``(positions, positions)``.
    :param time_steps: number of measurements.
    :param dt: time between them.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # as torch declares it
    has_rsample = True

    def __init__(
        self,
        x0: Tensor,
        P0: Tensor,
        dynamic_model: DifferentiableDynamicModel,
        measurement_cov: Tensor,
        time_steps: int = 1,
        dt: float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.x0, self.P0 = x0, P0
        self.dynamic_model = dynamic_model
        self.measurement_cov = measurement_cov
        self.dt = dt
        event_shape = torch.Size((time_steps, measurement_cov.shape[-1]))
        super().__init__(_EMPTY, event_shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """All real series."""
        return dist.constraints.independent(dist.constraints.real, 2)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw states step by step, and positions with noise."""
        shape = torch.Size(sample_shape)
        count = shape.numel()
        width = self._event_shape[1]
        state = dist.MultivariateNormal(self.x0, self.P0).rsample((count,))
        noise = self.dynamic_model.process_noise_dist(self.dt)
        steps = []
        for index in range(self._event_shape[0]):
            if index:
                moved = torch.stack([self.dynamic_model(each, self.dt) for each in state])
                state = moved + noise.rsample((count,))
            steps.append(state[:, :width])
        error = dist.MultivariateNormal(self.x0.new_zeros(width), self.measurement_cov)
        positions = torch.stack(steps, 1)
        return (positions + error.rsample(positions.shape[:2])).reshape(*shape, *self._event_shape)

    def filter_states(self, value: Tensor) -> list[EKFState]:
        """Return the beliefs about the state after each of the positions.

        :param value: ``(time_steps, positions)``.
        """
        return [state for state, _ in self._filtered(value)]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of positions, ``(..., time_steps, positions)``."""
        if self._validate_args:
            self._validate_sample(value)
        rows = value.reshape(-1, *self._event_shape)
        totals = [torch.stack([score for _, score in self._filtered(row)]).sum() for row in rows]
        return torch.stack(totals).reshape(value.shape[:-2])

    def _filtered(self, value: Tensor) -> list[tuple[EKFState, Tensor]]:
        state = EKFState(self.dynamic_model, self.x0, self.P0, time=0.0)
        found = []
        for index, position in enumerate(value):
            if index:
                state = state.predict(self.dt)
            measured = PositionMeasurement(position, self.measurement_cov, time=state.time)
            score = state.log_likelihood_of_update(measured)
            state, _ = state.update(measured)
            found.append((state, score))
        return found
