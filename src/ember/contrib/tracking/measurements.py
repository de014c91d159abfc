"""Describe measurements of the states of moving objects."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor, nn


class Measurement(nn.Module, metaclass=ABCMeta):
    """A Gaussian measurement; calling it with a state gives the measurement that the state predicts.

    :param mean: what was measured, ``(dimension,)``.
    :param cov: covariance of its noise, ``(dimension, dimension)``.
    :param time: when.
    :param frame_num: in which frame.
    """

    def __init__(
        self, mean: Tensor, cov: Tensor, time: float | None = None, frame_num: int | None = None
    ) -> None:
        super().__init__()
        self._mean, self._cov = mean, cov
        self._time, self._frame_num = time, frame_num

    @property
    def dimension(self) -> int:
        """Number of measured coordinates."""
        return self._mean.shape[0]

    @property
    def mean(self) -> Tensor:
        """What was measured."""
        return self._mean

    @property
    def cov(self) -> Tensor:
        """Covariance of its noise."""
        return self._cov

    @property
    def time(self) -> float | None:
        """When it was measured."""
        return self._time

    @property
    def frame_num(self) -> int | None:
        """In which frame it was measured."""
        return self._frame_num

    @abstractmethod
    def forward(self, x: Tensor, do_normalization: bool = True) -> Tensor:
        """Return the measurement that a state predicts.

        :param x: the state.
        :param do_normalization: whether angles and the like are brought into their range.
        """

    def geodesic_difference(self, z1: Tensor, z0: Tensor) -> Tensor:
        """Return z1 - z0, along the shortest way where coordinates are angles."""
        return z1 - z0


class DifferentiableMeasurement(Measurement):
    """A measurement that is a differentiable function of the state."""

    @abstractmethod
    def jacobian(self, x: Tensor | None = None) -> Tensor:
        """Return the derivative of the predicted measurement, ``(dimension, state dimension)``.

        :param x: the state.
        """


class PositionMeasurement(DifferentiableMeasurement):
    """A measurement of a position: of the first coordinates of a state of positions and velocities.

    :param mean: the position, ``(dimension,)``.
    :param cov: covariance of its noise, ``(dimension, dimension)``.
    :param time: when.
    :param frame_num: in which frame.
    """

    def forward(self, x: Tensor, do_normalization: bool = True) -> Tensor:
        """Return the position of a state."""
        return x[: self.dimension]

    def jacobian(self, x: Tensor | None = None) -> Tensor:
        """Return the derivative of the position, ``(dimension, 2 * dimension)``, or as wide as the state."""
        width = 2 * self.dimension if x is None else x.shape[-1]
        return torch.eye(self.dimension, width, dtype=self._mean.dtype, device=self._mean.device)
