"""Make transitions of the No-U-Turn sampler by doubling a trajectory until it turns.

Multinomial sampling within a doubling, biased progressive sampling between doublings and the generalised
U-turn criterion (Hoffman & Gelman 2014; Betancourt, arXiv 1701.02434, appendix A).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ember.engine import random
from ember.engine.control import while_loop
from ember.kernels import trajectory
from ember.kernels.density import Density, State, init
from ember.kernels.metric import Metric, kinetic_energy
from ember.kernels.trajectory import Extension, Leaf, Proposal, Stack, select_row, write_row

__all__ = ["State", "Info", "init", "step"]

_NOISE, _DOUBLINGS, _LEAVES = 0, 1, 2  # streams of a transition's key


class Info(NamedTuple):
    """What a person wants to see of a transition; all scalars."""

    energy: Tensor  # Hamiltonian at the new position, with the momentum it was reached by
    tree_depth: Tensor  # int64, number of completed doublings
    num_leapfrogs: Tensor  # int64
    diverging: Tensor  # bool, an energy error was above the limit or not finite
    acceptance: Tensor  # mean over the leaves of min(1, exp(-energy error))
    step_size: Tensor
    log_density: Tensor


class _Tree(NamedTuple):
    """The trajectory so far, a whole number of doublings."""

    ends: Leaf  # each [2, D], the backward and the forward end
    velocities: Tensor  # [2, D], at the ends
    momentum_sum: Tensor  # [D]
    proposal: Proposal
    row: Tensor  # int64, the proposal's row that counts
    log_density: Tensor  # at the proposal
    energy: Tensor  # likewise
    log_weight: Tensor
    depth: Tensor
    num_leapfrogs: Tensor
    acceptance_sum: Tensor
    turning: Tensor
    diverging: Tensor
    stack: Stack  # room for an extension's


def step(
    key: Tensor,
    density: Density,
    state: State,
    step_size: Tensor,
    metric: Metric,
    max_tree_depth: int = 10,
    max_energy_error: float = 1000.0,
) -> tuple[State, Info]:
    """Make one transition that leaves the density invariant.

    :param key: a key of its own for this transition.
    :param density: log density with gradient.
    :param state: where the chain is.
    :param step_size: positive scalar.
    :param metric: inverse mass matrix.
    :param max_tree_depth: at most 2**max_tree_depth − 1 leapfrog steps are taken.
    :param max_energy_error: energy error above which a trajectory counts as diverging.
    :raises ValueError: for a maximum tree depth below 1.
    """
    if max_tree_depth < 1:
        raise ValueError(f"max_tree_depth must be at least 1, got {max_tree_depth}")
    noise = random.normal(random.fold_in(key, _NOISE), state.position.shape, state.position.dtype)
    momentum = metric.momentum(noise)
    velocity = metric.velocity(momentum)
    start_energy = kinetic_energy(momentum, velocity) - state.log_density
    bits = random.random_bits(random.fold_in(key, _DOUBLINGS), max_tree_depth)
    leaf_key = random.fold_in(key, _LEAVES)

    def growing(tree: _Tree) -> Tensor:
        return (tree.depth < max_tree_depth) & ~(tree.turning | tree.diverging)

    def double(tree: _Tree) -> _Tree:
        # The lowest bit says in which direction, the others choose between two proposals.
        word = select_row(bits, tree.depth)
        forward = (word & 1) == 1
        near = forward.to(torch.int64)
        extension = trajectory.extend(
            leaf_key,
            density,
            start=Leaf(*(select_row(each, near) for each in tree.ends)),
            proposal=tree.proposal,
            row=1 - tree.row,
            size=torch.bitwise_left_shift(torch.ones_like(tree.depth), tree.depth),
            step_size=torch.where(forward, step_size, -step_size),
            metric=metric,
            start_energy=start_energy,
            stack=tree.stack,
            max_energy_error=max_energy_error,
        )
        return _join(random.uniform_from_bits(word), tree, extension, near)

    end = Leaf(state.position, momentum, state.gradient)
    zero = torch.zeros_like(start_energy)
    count = torch.zeros_like(start_energy, dtype=torch.int64)
    no = torch.zeros_like(start_energy, dtype=torch.bool)
    first = _Tree(
        ends=Leaf(*(_twice(each) for each in end)),
        velocities=_twice(velocity),
        momentum_sum=momentum,
        proposal=Proposal(_twice(state.position), _twice(state.gradient), state.log_density, start_energy),
        row=count,
        log_density=state.log_density,
        energy=start_energy,
        log_weight=zero,
        depth=count,
        num_leapfrogs=count,
        acceptance_sum=zero,
        turning=no,
        diverging=no,
        stack=trajectory.room(momentum, max(2, max_tree_depth)),
    )
    last = while_loop(growing, double, first)
    info = Info(
        energy=last.energy,
        tree_depth=last.depth,
        num_leapfrogs=last.num_leapfrogs,
        diverging=last.diverging,
        acceptance=last.acceptance_sum / last.num_leapfrogs,
        step_size=step_size,
        log_density=last.log_density,
    )
    position, gradient = (
        select_row(last.proposal.position, last.row),
        select_row(last.proposal.gradient, last.row),
    )
    return State(position, last.log_density, gradient), info


def _twice(row: Tensor) -> Tensor:
    return torch.stack([row, row])


def _join(uniform: Tensor, tree: _Tree, extension: Extension, near: Tensor) -> _Tree:
    """Add an extension at end ``near``, choose between the two proposals, and check the whole for U-turns."""
    complete = ~(extension.turning | extension.diverging)
    log_ratio = extension.log_weight - tree.log_weight
    take = complete & (torch.log(uniform) < log_ratio)
    momentum_sum = tree.momentum_sum + extension.momentum_sum
    begin, velocity = extension.stack, trajectory.last_velocity(extension)
    turning = trajectory.is_turning(
        whole=momentum_sum,
        left_and_seam=tree.momentum_sum + begin.sum_with.select(0, 0),
        seam_and_right=extension.momentum_sum + select_row(tree.ends.momentum, near),
        first=select_row(tree.velocities, 1 - near),
        seam_left=select_row(tree.velocities, near),
        seam_right=begin.first_velocity.select(0, 0),
        last=velocity,
    )
    return _Tree(
        ends=Leaf(*(write_row(old, near, new) for old, new in zip(tree.ends, extension.end, strict=True))),
        velocities=write_row(tree.velocities, near, velocity),
        momentum_sum=momentum_sum,
        proposal=extension.proposal,
        row=torch.where(take, 1 - tree.row, tree.row),
        log_density=torch.where(take, extension.proposal.log_density, tree.log_density),
        energy=torch.where(take, extension.proposal.energy, tree.energy),
        log_weight=torch.logaddexp(tree.log_weight, extension.log_weight),
        depth=tree.depth + complete.to(torch.int64),
        num_leapfrogs=tree.num_leapfrogs + extension.num_leaves,
        acceptance_sum=tree.acceptance_sum + extension.acceptance_sum,
        turning=extension.turning | turning,
        diverging=extension.diverging,
        stack=extension.stack,
    )
