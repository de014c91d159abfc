"""Describe how the states of objects move."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

import ember.distributions as dist
from ember.errors import message


class DynamicModel(nn.Module, metaclass=ABCMeta):
    """Base of models of motion; calling one with a state and a time gives the state after that time.

    :param dimension: of the state.
    :param dimension_pv: of positions and velocities together.
    :param num_process_noise_parameters: number of parameters of the noise.
    """

    def __init__(
        self, dimension: int, dimension_pv: int, num_process_noise_parameters: int | None = None
    ) -> None:
        super().__init__()
        self._dimension, self._dimension_pv = dimension, dimension_pv
        self._num_process_noise_parameters = num_process_noise_parameters

    @property
    def dimension(self) -> int:
        """Dimension of the state."""
        return self._dimension

    @property
    def dimension_pv(self) -> int:
        """Dimension of positions and velocities together."""
        return self._dimension_pv

    @property
    def num_process_noise_parameters(self) -> int | None:
        """Number of parameters of the noise."""
        return self._num_process_noise_parameters

    @abstractmethod
    def forward(self, x: Tensor, dt: Any, do_normalization: bool = True) -> Tensor:
        """Return the state after a time.

        :param x: the state.
        :param dt: the time.
        :param do_normalization: whether angles and the like are brought into their range.
        """

    def geodesic_difference(self, x1: Tensor, x0: Tensor) -> Tensor:
        """Return x1 - x0, along the shortest way where coordinates are angles."""
        return x1 - x0

    @abstractmethod
    def mean2pv(self, x: Tensor) -> Tensor:
        """Return the positions and velocities of a state, zeros for those it does not have."""

    @abstractmethod
    def cov2pv(self, P: Tensor) -> Tensor:
        """Return the covariance of positions and velocities."""

    @abstractmethod
    def process_noise_cov(self, dt: Any = 0.0) -> Tensor:
        """Return the covariance of the noise that a time adds."""

    def process_noise_dist(self, dt: Any = 0.0) -> Any:
        """Return the distribution of the noise that a time, greater than zero, adds."""
        covariance = self.process_noise_cov(dt)
        return dist.MultivariateNormal(covariance.new_zeros(self._dimension), covariance)


class DifferentiableDynamicModel(DynamicModel):
    """A motion that is a differentiable function of the state."""

    @abstractmethod
    def jacobian(self, dt: Any) -> Tensor:
        """Return the derivative of the state after a time by the state before."""


class Ncp(DifferentiableDynamicModel):
    """Motion at nearly constant position. Bar-Shalom, Li & Kirubarajan (2001), section 6.2.

    :param dimension: of the state, which is the position.
    :param sv2: variance of the velocity, a parameter.
    """

    def __init__(self, dimension: int, sv2: Any) -> None:
        super().__init__(dimension, 2 * dimension, num_process_noise_parameters=1)
        self.sv2 = _parameter(sv2)

    def forward(self, x: Tensor, dt: Any, do_normalization: bool = True) -> Tensor:
        """Return the state itself."""
        return x

    def mean2pv(self, x: Tensor) -> Tensor:
        """Return the position with velocity zero."""
        return torch.cat([x, torch.zeros_like(x)])

    def cov2pv(self, P: Tensor) -> Tensor:
        """Return the covariance with that of velocities zero."""
        return torch.block_diag(P, torch.zeros_like(P))

    def jacobian(self, dt: Any) -> Tensor:
        """Return the identity."""
        return torch.eye(self._dimension, dtype=self.sv2.dtype, device=self.sv2.device)

    def process_noise_cov(self, dt: Any = 0.0) -> Tensor:
        """Return sv2 · dt² on the diagonal."""
        return self.sv2 * dt**2 * self.jacobian(dt)


class NcpContinuous(Ncp):
    """Nearly constant position with noise in continuous time, of power spectral density sv2 · dt."""


class NcpDiscrete(Ncp):
    """Nearly constant position whose velocity is drawn anew, and kept for each time step."""


class Ncv(DifferentiableDynamicModel):
    """Motion at nearly constant velocity. Bar-Shalom, Li & Kirubarajan (2001), section 6.2.

    :param dimension: of the state: positions, then velocities.
    :param sa2: variance of the acceleration, a parameter.
    :raises ValueError: for an odd dimension.
    """

    def __init__(self, dimension: int, sa2: Any) -> None:
        if dimension % 2:
            raise ValueError(
                message(
                    "A state of positions and velocities has an even dimension.",
                    expected="2 * number of coordinates",
                    actual=dimension,
                )
            )
        super().__init__(dimension, dimension, num_process_noise_parameters=1)
        self.sa2 = _parameter(sa2)

    def forward(self, x: Tensor, dt: Any, do_normalization: bool = True) -> Tensor:
        """Return the state moved on by its velocity."""
        position, velocity = x.chunk(2, -1)
        return torch.cat([position + dt * velocity, velocity], -1)

    def mean2pv(self, x: Tensor) -> Tensor:
        """Return the state itself."""
        return x

    def cov2pv(self, P: Tensor) -> Tensor:
        """Return the covariance itself."""
        return P

    def jacobian(self, dt: Any) -> Tensor:
        """Return [[1, dt], [0, 1]], in blocks."""
        return self._blocks([[1.0, dt], [0.0, 1.0]])

    def _blocks(self, entries: list[list[Any]]) -> Tensor:
        like = self.sa2
        small = torch.stack(
            [
                torch.stack([torch.as_tensor(e, dtype=like.dtype, device=like.device) for e in row])
                for row in entries
            ]
        )
        eye = torch.eye(self._dimension // 2, dtype=like.dtype, device=like.device)
        return torch.kron(small, eye)


class NcvContinuous(Ncv):
    """Nearly constant velocity with noise in continuous time, of power spectral density sa2 · dt."""

    def process_noise_cov(self, dt: Any = 0.0) -> Tensor:
        """Return sa2 · dt · [[dt³/3, dt²/2], [dt²/2, dt]], in blocks."""
        return self.sa2 * dt * self._blocks([[dt**3 / 3.0, dt**2 / 2.0], [dt**2 / 2.0, dt]])


class NcvDiscrete(Ncv):
    """Nearly constant velocity whose acceleration is drawn anew, and kept for each time step."""

    def process_noise_cov(self, dt: Any = 0.0) -> Tensor:
        """Return sa2 · [[dt⁴/4, dt³/2], [dt³/2, dt²]], in blocks."""
        return self.sa2 * self._blocks([[dt**4 / 4.0, dt**3 / 2.0], [dt**3 / 2.0, dt**2]])


def _parameter(value: Any) -> nn.Parameter:
    if isinstance(value, nn.Parameter):
        return value
    return nn.Parameter(
        torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.get_default_dtype())
    )
