"""Make transitions of Hamiltonian Monte Carlo with trajectories of fixed length.

Duane et al. 1987; Neal 2011, *MCMC using Hamiltonian dynamics*, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ember.engine import random
from ember.engine.control import while_loop
from ember.kernels.density import Density, State, init
from ember.kernels.integrator import Point, leapfrog
from ember.kernels.metric import Metric, kinetic_energy

__all__ = ["State", "Info", "init", "step"]

_NOISE, _CHOICE = 0, 1  # streams of a transition's key


class Info(NamedTuple):
    """What a person wants to see of a transition; all scalars."""

    energy: Tensor  # Hamiltonian at the new position, with the momentum it was reached by
    num_leapfrogs: Tensor  # int64
    diverging: Tensor  # bool, the energy error was above the limit or not finite
    acceptance: Tensor  # probability of accepting the trajectory's end
    accepted: Tensor  # bool
    step_size: Tensor
    log_density: Tensor


def step(
    key: Tensor,
    density: Density,
    state: State,
    step_size: Tensor,
    metric: Metric,
    trajectory_length: float | None = None,
    num_steps: int | None = None,
    max_num_steps: int = 1023,
    max_energy_error: float = 1000.0,
) -> tuple[State, Info]:
    """Make one transition that leaves the density invariant.

    :param key: a key of its own for this transition.
    :param density: log density with gradient.
    :param state: where the chain is.
    :param step_size: positive scalar.
    :param metric: inverse mass matrix.
    :param trajectory_length: time to integrate for, in whole steps of ``step_size``, at least one.
    :param num_steps: number of leapfrog steps, instead of ``trajectory_length``.
    :param max_num_steps: most leapfrog steps that a trajectory length may ask for.
    :param max_energy_error: energy error above which a trajectory counts as diverging.
    :raises ValueError: unless exactly one of ``trajectory_length`` and ``num_steps`` is given and positive.
    """
    noise = random.normal(random.fold_in(key, _NOISE), state.position.shape, state.position.dtype)
    momentum = metric.momentum(noise)
    start_energy = kinetic_energy(momentum, metric.velocity(momentum)) - state.log_density
    length = _number_of_steps(step_size, trajectory_length, num_steps, max_num_steps)

    def unfinished(carry: tuple[Point, Tensor]) -> Tensor:
        return carry[1] < length

    def advance(carry: tuple[Point, Tensor]) -> tuple[Point, Tensor]:
        position, momentum, _, gradient = carry[0]
        return leapfrog(density, metric, step_size, position, momentum, gradient), carry[1] + 1

    start = Point(state.position, momentum, state.log_density, state.gradient)
    end, _ = while_loop(unfinished, advance, (start, torch.zeros_like(length)))
    end_energy = kinetic_energy(end.momentum, metric.velocity(end.momentum)) - end.log_density
    error = end_energy - start_energy
    # Written so that a NaN, too, counts as diverging.
    diverging = ~((error < max_energy_error) & (error > -torch.inf))
    log_acceptance = torch.where(diverging, torch.full_like(error, -torch.inf), -error).clamp(max=0.0)
    accepted = torch.log(random.uniform(random.fold_in(key, _CHOICE))) < log_acceptance
    new = State(
        torch.where(accepted, end.position, state.position),
        torch.where(accepted, end.log_density, state.log_density),
        torch.where(accepted, end.gradient, state.gradient),
    )
    info = Info(
        energy=torch.where(accepted, end_energy, start_energy),
        num_leapfrogs=length,
        diverging=diverging,
        acceptance=torch.exp(log_acceptance),
        accepted=accepted,
        step_size=step_size,
        log_density=new.log_density,
    )
    return new, info


def _number_of_steps(
    step_size: Tensor, trajectory_length: float | None, num_steps: int | None, max_num_steps: int
) -> Tensor:
    if (trajectory_length is None) == (num_steps is None):
        raise ValueError(
            "give exactly one of trajectory_length and num_steps, "
            f"got trajectory_length={trajectory_length}, num_steps={num_steps}"
        )
    if num_steps is not None:
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}")
        return torch.full_like(step_size, num_steps, dtype=torch.int64)
    if trajectory_length is None or not trajectory_length > 0:
        raise ValueError(f"trajectory_length must be positive, got {trajectory_length}")
    # The small excess keeps a length that is a whole number of steps from being rounded down.
    steps = torch.floor(trajectory_length / step_size + 1e-9)
    return steps.clamp(min=1.0, max=float(max_num_steps)).to(torch.int64)
