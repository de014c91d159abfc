"""Extend a trajectory leaf by leaf, sampling among the new leaves and watching for U-turns and divergence.

Multinomial sampling among leaves and the generalised U-turn criterion with momentum sums are Betancourt's
(arXiv 1701.02434, appendices A.3 and A.4.2); the iteration with a logarithmic number of checkpoints is that
of Phan, Pradhan & Jankowiak (arXiv 1912.11554) and Lao & Dillon (2020). Every subtree is checked as a whole
and across the seam of its halves.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from ember.engine import random
from ember.engine.control import cond, while_loop
from ember.engine.passes.workspace import workspace
from ember.kernels.density import Density
from ember.kernels.integrator import leapfrog
from ember.kernels.metric import Metric, kinetic_energy


class Leaf(NamedTuple):
    """A point of a trajectory; with a leading dimension of two, its backward and its forward end."""

    position: Tensor  # [D]
    momentum: Tensor  # [D]
    gradient: Tensor  # [D]


class Proposal(NamedTuple):
    """A leaf that may become the next draw, written to one of two rows so that nobody copies the other."""

    position: Tensor  # [2, D]
    gradient: Tensor  # [2, D]
    log_density: Tensor  # at the row written last
    energy: Tensor  # likewise


class Stack(NamedTuple):
    """The complete subtrees that wait for their right half, like the ones in a binary counter.

    Each has what checks need of its first leaf, and of the last leaf before it, across the seam.
    """

    first_velocity: Tensor  # [rows, D]
    sum_before: Tensor  # [rows, D], momentum sum of the leaves before
    sum_with: Tensor  # [rows, D], and with the first leaf
    seam_velocity: Tensor  # [rows, D], velocity at the leaf before
    sum_before_seam: Tensor  # [rows, D], momentum sum of the leaves before that one


class Extension(NamedTuple):
    """The new leaves visited so far, and what was chosen among them."""

    end: Leaf  # the last one
    momentum_sum: Tensor  # [D], over the new leaves
    proposal: Proposal
    log_weight: Tensor  # of all new leaves
    threshold: Tensor  # the log weight above which the next leaf becomes the proposal
    num_leaves: Tensor  # int64
    acceptance_sum: Tensor
    turning: Tensor  # bool
    diverging: Tensor  # bool
    stack: Stack
    top: Tensor  # int64, the stack's row for the next leaf


def room(like: Tensor, num_rows: int) -> Stack:
    """Return room for a stack, for vectors shaped and typed as ``like``; its content does not matter."""
    return Stack(*(workspace(like, (num_rows, like.shape[0])) for _ in Stack._fields))


def extend(
    key: Tensor,
    density: Density,
    start: Leaf,
    proposal: Proposal,
    row: Tensor,
    size: Tensor,
    step_size: Tensor,
    metric: Metric,
    start_energy: Tensor,
    stack: Stack,
    max_energy_error: float,
) -> Extension:
    """Visit ``size`` new leaves from the leaf ``start`` on, or fewer if one diverges or a subtree turns.

    :param key: random numbers for the choice among the leaves; may be the same for extensions of other sizes.
    :param start: the trajectory's end, itself not among the new leaves.
    :param proposal: room for the chosen leaf; nothing is written if no leaf has weight.
    :param row: which of the proposal's rows to write, int64.
    :param size: int64, a power of two.
    :param step_size: signed: negative goes back in time.
    :param start_energy: energy that errors and weights are relative to.
    :param stack: room for ``max(2, log2(size))`` subtrees.
    :param max_energy_error: energy error above which a leaf counts as diverging.
    """
    minus_infinity = torch.full_like(start_energy, -torch.inf)
    zero = torch.zeros_like(start_energy)
    no_leaves = torch.zeros_like(size)
    no = torch.zeros_like(size, dtype=torch.bool)

    def unfinished(carry: Extension) -> Tensor:
        return (carry.num_leaves < size) & ~(carry.turning | carry.diverging)

    def visit(carry: Extension) -> Extension:
        point = leapfrog(density, metric, step_size, *carry.end)
        velocity = metric.velocity(point.momentum)
        energy = kinetic_energy(point.momentum, velocity) - point.log_density
        error = energy - start_energy
        # Written so that a NaN, too, counts as diverging.
        diverging = ~((error < max_energy_error) & (error > -torch.inf))
        log_weight = torch.where(diverging, minus_infinity, -error)
        total = torch.logaddexp(carry.log_weight, log_weight)

        # Multinomial sampling by a reservoir with jumps: a random number per change of the proposal, not per
        # leaf (Efraimidis & Spirakis 2006, algorithm A-ExpJ, for a sample of one).
        def take() -> tuple[Proposal, Tensor]:
            uniform = random.uniform(random.fold_in(key, size + carry.num_leaves))
            taken = Proposal(
                write_row(carry.proposal.position, row, point.position),
                write_row(carry.proposal.gradient, row, point.gradient),
                point.log_density,
                energy,
            )
            return taken, total - torch.log(uniform)

        def keep() -> tuple[Proposal, Tensor]:
            return carry.proposal, carry.threshold

        chosen, threshold = cond(total > carry.threshold, take, keep)
        momentum_sum = carry.momentum_sum + point.momentum
        stack, top, turning = cond(
            (carry.num_leaves & 1) == 0,
            lambda: _push(carry.stack, carry.top, momentum_sum, velocity),
            lambda: _merge(carry.stack, carry.top, carry.num_leaves, momentum_sum, point.momentum, velocity),
        )
        return Extension(
            end=Leaf(point.position, point.momentum, point.gradient),
            momentum_sum=momentum_sum,
            proposal=chosen,
            log_weight=total,
            threshold=threshold,
            num_leaves=carry.num_leaves + 1,
            acceptance_sum=carry.acceptance_sum + torch.exp(log_weight.clamp(max=0.0)),
            turning=turning,
            diverging=diverging,
            stack=stack,
            top=top,
        )

    nothing = torch.zeros_like(start.position)
    empty = Extension(
        end=start,
        momentum_sum=nothing,
        proposal=proposal,
        log_weight=minus_infinity,
        threshold=minus_infinity,
        num_leaves=no_leaves,
        acceptance_sum=zero,
        turning=no,
        diverging=no,
        stack=stack._replace(sum_before=write_row(stack.sum_before, no_leaves, nothing)),
        top=no_leaves,
    )
    return while_loop(unfinished, visit, empty)


def last_velocity(extension: Extension) -> Tensor:
    """Return the velocity at the last leaf, which lies on the stack."""
    stack, top = extension.stack, extension.top
    begun = (extension.num_leaves & 1) == 1
    return torch.where(begun, select_row(stack.first_velocity, top - 1), select_row(stack.seam_velocity, top))


def _push(stack: Stack, top: Tensor, momentum_sum: Tensor, velocity: Tensor) -> tuple[Stack, Tensor, Tensor]:
    """Begin a subtree with a leaf; what is before it was written after the leaf before.

    Returns the stack, its next free row, and whether a subtree turns.
    """
    begun = stack._replace(
        first_velocity=write_row(stack.first_velocity, top, velocity),
        sum_with=write_row(stack.sum_with, top, momentum_sum),
    )
    return begun, top + 1, torch.zeros_like(top, dtype=torch.bool)


def _merge(
    stack: Stack, top: Tensor, number: Tensor, momentum_sum: Tensor, momentum: Tensor, velocity: Tensor
) -> tuple[Stack, Tensor, Tensor]:
    """Join the complete subtrees that end at a leaf with their left halves, and check each for a U-turn.

    Returns the stack, its next free row, and whether a subtree turns.
    """

    def pending(carry: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        bits, _, turning = carry
        return ((bits & 1) == 1) & ~turning

    def join(carry: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        bits, right, _ = carry
        left = right - 1
        sum_before = select_row(stack.sum_before, left)
        turning = is_turning(
            whole=momentum_sum - sum_before,
            left_and_seam=select_row(stack.sum_with, right) - sum_before,
            seam_and_right=momentum_sum - select_row(stack.sum_before_seam, right),
            first=select_row(stack.first_velocity, left),
            seam_left=select_row(stack.seam_velocity, right),
            seam_right=select_row(stack.first_velocity, right),
            last=velocity,
        )
        return bits >> 1, left, turning

    # Of a pair of leaves there is only the whole to check.
    row = top - 1
    pair = momentum_sum - select_row(stack.sum_before, row)
    turning = _turns(torch.dot(pair, select_row(stack.first_velocity, row)), torch.dot(pair, velocity))
    _, row, turning = while_loop(pending, join, (number >> 1, row, turning))
    following = row + 1
    before = stack._replace(
        sum_before=write_row(stack.sum_before, following, momentum_sum),
        seam_velocity=write_row(stack.seam_velocity, following, velocity),
        sum_before_seam=write_row(stack.sum_before_seam, following, momentum_sum - momentum),
    )
    return before, following, turning


def is_turning(
    whole: Tensor,
    left_and_seam: Tensor,
    seam_and_right: Tensor,
    first: Tensor,
    seam_left: Tensor,
    seam_right: Tensor,
    last: Tensor,
) -> Tensor:
    """Check two adjacent halves for a U-turn of the whole, and of each half with the other's nearest leaf.

    The first three are momentum sums over these stretches, the others velocities at their ends.
    """
    return _turns(
        torch.dot(whole, first),
        torch.dot(whole, last),
        torch.dot(left_and_seam, first),
        torch.dot(left_and_seam, seam_right),
        torch.dot(seam_and_right, seam_left),
        torch.dot(seam_and_right, last),
    )


def _turns(*products: Tensor) -> Tensor:
    """Say whether one of the products of momentum sums and velocities is not positive."""
    return ~(functools.reduce(torch.minimum, products) > 0.0)


def select_row(rows: Tensor, index: Tensor) -> Tensor:
    """Select ``rows[index]`` by a scalar tensor, without reading its value in Python."""
    return rows.index_select(0, index.reshape(1)).squeeze(0)


def write_row(rows: Tensor, index: Tensor, row: Tensor) -> Tensor:
    """Replace ``rows[index]``, for an index in a scalar tensor."""
    return rows.index_copy(0, index.reshape(1), row.unsqueeze(0))
