"""Minimise a convex function of a number from noisy gradients."""

from __future__ import annotations

from typing import Any


class DualAveraging:
    """Nesterov's (2009) dual averaging, with averages as in Hoffman & Gelman (2014), section 3.2.

    :param prox_center: the point that early iterates are drawn to.
    :param t0: weakens the first iterations.
    :param kappa: in (0.5, 1]; how fast old iterates are forgotten.
    :param gamma: how strongly iterates are drawn to ``prox_center``.
    """

    def __init__(
        self, prox_center: Any = 0, t0: float = 10, kappa: float = 0.75, gamma: float = 0.05
    ) -> None:
        self.prox_center = prox_center
        self.t0 = t0
        self.kappa = kappa
        self.gamma = gamma
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self._average: Any = 0
        self._gradient: Any = 0
        self._iterate: Any = 0
        self._count = 0

    def step(self, g: Any) -> None:
        """Take a step, given the gradient at the last iterate."""
        self._count += 1
        share = 1.0 / (self._count + self.t0)
        self._gradient = (1.0 - share) * self._gradient + share * g
        self._iterate = self.prox_center - self._count**0.5 / self.gamma * self._gradient
        weight = self._count ** (-self.kappa)
        self._average = weight * self._iterate + (1.0 - weight) * self._average

    def get_state(self) -> tuple[Any, Any]:
        """Return the last iterate and the average."""
        return self._iterate, self._average
