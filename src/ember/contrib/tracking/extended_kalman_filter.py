"""Filter the state of a moving object by an extended Kalman filter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import ember.distributions as dist
from ember.contrib.tracking.dynamic_models import DifferentiableDynamicModel
from ember.contrib.tracking.measurements import DifferentiableMeasurement
from ember.errors import message


class EKFState:
    """A Gaussian belief about the state of an object; its methods return new ones.

    Bar-Shalom, Li & Kirubarajan (2001), Estimation with applications to tracking and navigation, section
    10.3.2; covariances are updated in Joseph's form.

    :param dynamic_model: how the state moves.
    :param mean: ``(dimension,)``.
    :param cov: ``(dimension, dimension)``.
    :param time: of the belief.
    :param frame_num: of the belief.
    :raises ValueError: if neither time nor frame number is given.
    """

    def __init__(
        self,
        dynamic_model: DifferentiableDynamicModel,
        mean: Tensor,
        cov: Tensor,
        time: float | None = None,
        frame_num: int | None = None,
    ) -> None:
        if time is None and frame_num is None:
            raise ValueError(
                message("A belief about a state has no time.", fix="give it a time, a frame_num, or both")
            )
        self._dynamic_model = dynamic_model
        self._mean, self._cov = mean, cov
        self._time, self._frame_num = time, frame_num

    @property
    def dynamic_model(self) -> DifferentiableDynamicModel:
        """How the state moves."""
        return self._dynamic_model

    @property
    def dimension(self) -> int:
        """Dimension of the state."""
        return self._dynamic_model.dimension

    @property
    def mean(self) -> Tensor:
        """Mean of the state."""
        return self._mean

    @property
    def cov(self) -> Tensor:
        """Covariance of the state."""
        return self._cov

    @property
    def dimension_pv(self) -> int:
        """Dimension of positions and velocities together."""
        return self._dynamic_model.dimension_pv

    @property
    def mean_pv(self) -> Tensor:
        """Mean of positions and velocities."""
        return self._dynamic_model.mean2pv(self._mean)

    @property
    def cov_pv(self) -> Tensor:
        """Covariance of positions and velocities."""
        return self._dynamic_model.cov2pv(self._cov)

    @property
    def time(self) -> float | None:
        """Time of the belief."""
        return self._time

    @property
    def frame_num(self) -> int | None:
        """Frame number of the belief."""
        return self._frame_num

    def predict(
        self,
        dt: float | None = None,
        destination_time: float | None = None,
        destination_frame_num: int | None = None,
    ) -> EKFState:
        """Return the belief at a later time.

        :param dt: time that passes, or
        :param destination_time: the later time.
        :param destination_frame_num: the later frame number.
        :raises ValueError: unless exactly one of ``dt`` and ``destination_time`` is given.
        """
        if (dt is None) == (destination_time is None):
            raise ValueError(
                message("A prediction needs one time.", expected="either dt or destination_time, not both")
            )
        if dt is None:
            if self._time is None or destination_time is None:
                raise ValueError(message("The belief has no time to go on from.", fix="predict by dt"))
            dt = destination_time - self._time
        else:
            destination_time = None if self._time is None else self._time + dt
        model = self._dynamic_model
        jacobian = model.jacobian(dt)
        cov = jacobian @ self._cov @ jacobian.mT + model.process_noise_cov(dt)
        return EKFState(model, model(self._mean, dt), cov, destination_time, destination_frame_num)

    def innovation(self, measurement: DifferentiableMeasurement) -> tuple[Tensor, Tensor]:
        """Return how a measurement differs from what is expected, and the covariance of that.

        :raises ValueError: if the measurement is of another time or frame.
        """
        self._check_time(measurement)
        jacobian = measurement.jacobian(self._mean)
        difference = measurement.geodesic_difference(measurement.mean, measurement(self._mean))
        return difference, jacobian @ self._cov @ jacobian.mT + measurement.cov

    def log_likelihood_of_update(self, measurement: DifferentiableMeasurement) -> Tensor:
        """Return the log density of a measurement under the belief."""
        difference, covariance = self.innovation(measurement)
        return dist.MultivariateNormal(torch.zeros_like(difference), covariance).log_prob(difference)

    def update(self, measurement: DifferentiableMeasurement) -> tuple[EKFState, Any]:
        """Return the belief after a measurement, and its :meth:`innovation`."""
        difference, covariance = self.innovation(measurement)
        jacobian = measurement.jacobian(self._mean)
        gain = torch.linalg.solve(covariance, jacobian @ self._cov).mT
        mean = self._mean + gain @ difference
        kept = torch.eye(self.dimension, dtype=gain.dtype, device=gain.device) - gain @ jacobian
        cov = kept @ self._cov @ kept.mT + gain @ measurement.cov @ gain.mT
        updated = EKFState(self._dynamic_model, mean, cov, self._time, self._frame_num)
        return updated, (difference, covariance)

    def _check_time(self, measurement: DifferentiableMeasurement) -> None:
        for name in ("time", "frame_num"):
            own, its = getattr(self, name), getattr(measurement, name)
            if own is not None and its is not None and own != its:
                raise ValueError(
                    message(
                        f"A measurement is of another {name} than the state.",
                        expected=own,
                        actual=its,
                        fix="predict the state at the time of the measurement first",
                    )
                )
