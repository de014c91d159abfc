"""Make transitions of random-walk Metropolis.

Metropolis et al. 1953; the best acceptance in many dimensions is 0.234 (Roberts, Gelman & Gilks 1997).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ember.engine import random
from ember.kernels.density import Density, State, init
from ember.kernels.metric import Metric

__all__ = ["State", "Info", "init", "step"]

_NOISE, _CHOICE = 0, 1  # streams of a transition's key


class Info(NamedTuple):
    """What a person wants to see of a transition; all scalars."""

    acceptance: Tensor  # probability of accepting the proposal
    accepted: Tensor  # bool
    step_size: Tensor
    log_density: Tensor


def step(
    key: Tensor, density: Density, state: State, step_size: Tensor, metric: Metric
) -> tuple[State, Info]:
    """Propose a normal step, and accept it with the Metropolis probability.

    The transition leaves the density invariant.

    :param key: a key of its own for this transition.
    :param density: log density with gradient; the gradient is only handed on.
    :param state: where the chain is.
    :param step_size: positive scalar.
    :param metric: covariance of a step of size one.
    """
    noise = random.normal(random.fold_in(key, _NOISE), state.position.shape, state.position.dtype)
    proposed = init(density, state.position + step_size * metric.velocity(metric.momentum(noise)))
    gain = proposed.log_density - state.log_density
    # Written so that a NaN, or a density of plus infinity, rejects.
    log_acceptance = torch.where(gain < torch.inf, gain, torch.full_like(gain, -torch.inf)).clamp(max=0.0)
    accepted = torch.log(random.uniform(random.fold_in(key, _CHOICE))) < log_acceptance
    chosen = State(*(torch.where(accepted, new, old) for new, old in zip(proposed, state, strict=True)))
    return chosen, Info(torch.exp(log_acceptance), accepted, step_size, chosen.log_density)
