"""Make transitions of random-walk Metropolis with a step size that adapts to a target acceptance.

Metropolis et al. 1953; the target 0.234 is that of Roberts, Gelman & Gilks 1997, the adaptation a
Robbins–Monro recursion on log ε (Andrieu & Thoms 2008, section 4.2.2).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ember.engine import random
from ember.kernels.density import Density

__all__ = ["State", "Info", "init", "step"]

_NOISE, _CHOICE = 0, 1  # streams of a transition's key


class State(NamedTuple):
    """A position with the log density there, and the step size."""

    position: Tensor  # [D]
    log_density: Tensor  # []
    log_step_size: Tensor  # []
    num_adapted: Tensor  # float, number of updates of the step size


class Info(NamedTuple):
    """What a person wants to see of a transition; all scalars."""

    acceptance: Tensor  # probability of accepting the proposal
    accepted: Tensor  # bool
    step_size: Tensor
    log_density: Tensor


def init(density: Density, position: Tensor, step_size: float | Tensor = 0.1) -> State:
    """Evaluate the density at a first position, once."""
    log_density, _ = density(position)
    log_step_size = torch.log(torch.as_tensor(step_size, dtype=log_density.dtype))
    return State(position, log_density, log_step_size, torch.zeros_like(log_density))


def step(
    key: Tensor,
    density: Density,
    state: State,
    adapt: bool | Tensor = False,
    target_acceptance: float = 0.234,
) -> tuple[State, Info]:
    """Propose a normal step in every coordinate, and accept it with the Metropolis probability.

    The transition leaves the density invariant as long as ``adapt`` is false.

    :param key: a key of its own for this transition.
    :param density: log density with gradient; the gradient is not used.
    :param state: where the chain is.
    :param adapt: whether to adapt the step size after the transition, bool or bool scalar.
    :param target_acceptance: mean acceptance probability that adaptation aims at.
    """
    step_size = torch.exp(state.log_step_size)
    noise = random.normal(random.fold_in(key, _NOISE), state.position.shape, state.position.dtype)
    position = state.position + step_size * noise
    log_density, _ = density(position)
    gain = log_density - state.log_density
    # Written so that a NaN, or a density of plus infinity, rejects.
    log_acceptance = torch.where(gain < torch.inf, gain, torch.full_like(gain, -torch.inf)).clamp(max=0.0)
    accepted = torch.log(random.uniform(random.fold_in(key, _CHOICE))) < log_acceptance
    acceptance = torch.exp(log_acceptance)
    adapting = torch.as_tensor(adapt).to(step_size.dtype)
    num_adapted = state.num_adapted + adapting
    rate = adapting * torch.pow(num_adapted.clamp(min=1.0), -0.6)
    new = State(
        torch.where(accepted, position, state.position),
        torch.where(accepted, log_density, state.log_density),
        state.log_step_size + rate * (acceptance - target_acceptance),
        num_adapted,
    )
    return new, Info(acceptance, accepted, step_size, new.log_density)
