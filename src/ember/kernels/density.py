"""Define what a kernel knows of a model: a log density with its gradient over a flat position."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from torch import Tensor

Density: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Position z, shape ``[D]`` → (log π(z) up to a constant, shape ``[]``; its gradient, shape ``[D]``)."""


class State(NamedTuple):
    """A position with the density there, so that no transition evaluates it twice."""

    position: Tensor  # [D]
    log_density: Tensor  # []
    gradient: Tensor  # [D]


def init(density: Density, position: Tensor) -> State:
    """Evaluate the density at a first position, once."""
    log_density, gradient = density(position)
    return State(position, log_density, gradient)
