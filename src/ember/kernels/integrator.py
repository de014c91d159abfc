"""Integrate Hamilton's equations by leapfrog steps (velocity Verlet)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ember.kernels.density import Density
from ember.kernels.metric import Metric


class Point(NamedTuple):
    """A point in phase space with the density at its position."""

    position: Tensor  # [D]
    momentum: Tensor  # [D]
    log_density: Tensor  # []
    gradient: Tensor  # [D]


def leapfrog(
    density: Density,
    metric: Metric,
    step_size: Tensor,
    position: Tensor,
    momentum: Tensor,
    gradient: Tensor,
) -> Point:
    """Take one leapfrog step with one evaluation of the density; a negative step size goes back in time.

    Half a step of the momentum, a step of the position, half a step of the momentum (Neal 2011, section 2.3):
    volume-preserving, and reversible up to rounding.
    """
    half = 0.5 * step_size
    midway = momentum + half * gradient
    position = position + step_size * metric.velocity(midway)
    log_density, gradient = density(position)
    return Point(position, midway + half * gradient, log_density, gradient)
