"""Adapt step sizes: dual averaging towards a target acceptance, and a reasonable first value.

Hoffman & Gelman 2014, *The No-U-Turn Sampler*, section 3.2 and algorithm 4.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ember.engine import random
from ember.engine.control import while_loop
from ember.kernels.density import Density, State
from ember.kernels.integrator import leapfrog
from ember.kernels.metric import Metric, kinetic_energy


class DualAveraging(NamedTuple):
    """State of Nesterov's dual averaging of log ε; all scalars."""

    log_step_size: Tensor  # log ε_t, to use next while adapting
    log_average: Tensor  # log ε̄_t, to use when adaptation ends
    error: Tensor  # H̄_t, weighted mean of target − acceptance
    num_updates: Tensor  # t, float
    center: Tensor  # µ, where log ε is pulled to


def init(step_size: Tensor) -> DualAveraging:
    """Start (or restart) dual averaging from a step size, with µ = log(10 ε)."""
    log_step_size = torch.log(step_size)
    zero = torch.zeros_like(log_step_size)
    return DualAveraging(log_step_size, log_step_size, zero, zero, log_step_size + 2.302585092994046)


def update(
    state: DualAveraging,
    acceptance: Tensor,
    target: float = 0.8,
    shrinkage: float = 0.05,
    offset: float = 10.0,
    decay: float = 0.75,
) -> DualAveraging:
    """Take the acceptance statistic of one transition into account.

    :param acceptance: in [0, 1]; NaN counts as 0.
    :param target: δ, the acceptance to reach.
    :param shrinkage: γ, how strongly log ε is pulled to µ.
    :param offset: t₀, damps the first updates.
    :param decay: κ, how fast early values leave the average.
    """
    count = state.num_updates + 1.0
    weight = 1.0 / (count + offset)
    shortfall = target - torch.where(acceptance > 0.0, acceptance, torch.zeros_like(acceptance))
    error = (1.0 - weight) * state.error + weight * shortfall
    log_step_size = state.center - torch.sqrt(count) / shrinkage * error
    forgetting = torch.pow(count, -decay)
    log_average = forgetting * log_step_size + (1.0 - forgetting) * state.log_average
    return DualAveraging(log_step_size, log_average, error, count, state.center)


def heuristic(
    key: Tensor,
    density: Density,
    state: State,
    step_size: Tensor,
    metric: Metric,
    target: float = 0.8,
    max_iterations: int = 60,
) -> Tensor:
    """Find a step size at which one leapfrog step is accepted about as often as ``target`` says.

    Doubles or halves ``step_size`` until the acceptance of one step, with one momentum throughout, crosses
    the target. Evaluates the density once per trial, at most ``max_iterations`` + 1 times.
    """
    momentum = metric.momentum(random.normal(key, state.position.shape, state.position.dtype))
    start_energy = kinetic_energy(momentum, metric.velocity(momentum)) - state.log_density
    log_target = torch.log(torch.full_like(start_energy, target))

    def acceptable(trial: Tensor) -> Tensor:
        point = leapfrog(density, metric, trial, state.position, momentum, state.gradient)
        energy = kinetic_energy(point.momentum, metric.velocity(point.momentum)) - point.log_density
        return start_energy - energy > log_target  # False for NaN

    grow = acceptable(step_size)
    factor = torch.where(grow, torch.full_like(step_size, 2.0), torch.full_like(step_size, 0.5))

    def searching(carry: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        _, accepted, iteration = carry
        return (accepted == grow) & (iteration < max_iterations)

    def rescale(carry: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        trial = carry[0] * factor
        return trial, acceptable(trial), carry[2] + 1

    found, _, _ = while_loop(
        searching, rescale, (step_size, grow, torch.zeros_like(start_energy, dtype=torch.int64))
    )
    return found
