"""Extend a trajectory leaf by leaf, sampling among the new leaves and watching for U-turns and divergence.

Multinomial sampling among leaves and the generalised U-turn criterion with momentum sums are Betancourt's
(arXiv 1701.02434, appendices A.3 and A.4.2); the iteration with a logarithmic number of checkpoints is that
of Phan, Pradhan & Jankowiak (arXiv 1912.11554) and Lao & Dillon (2020). Every subtree is checked as a whole
and across the seam of its halves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ember.engine import random
from ember.engine.control import cond, while_loop
from ember.kernels.density import Density, State
from ember.kernels.integrator import leapfrog
from ember.kernels.metric import Metric, kinetic_energy

# Rows of a leaf.
POSITION, MOMENTUM, VELOCITY, GRADIENT = range(4)
# Rows of the checkpoint of a subtree: the velocity at its first leaf, the momentum sums without and with that
# leaf, the velocity at the leaf before it, and the momentum sum without that one.
FIRST_VELOCITY, SUM_BEFORE, SUM_WITH, SEAM_VELOCITY, SUM_BEFORE_SEAM = range(5)


class Extension(NamedTuple):
    """The new leaves visited so far, and what was chosen among them.

    Complete subtrees that wait for their right half lie on a stack of checkpoints, like the ones in a
    binary counter.
    """

    end: Tensor  # [4, D], the last leaf
    momentum_sum: Tensor  # [D], over the new leaves
    proposal: State
    energy: Tensor  # at the proposal
    log_weight: Tensor  # of all new leaves
    threshold: Tensor  # the log weight above which the next leaf becomes the proposal
    num_leaves: Tensor  # int64
    acceptance_sum: Tensor
    turning: Tensor  # bool
    diverging: Tensor  # bool
    checkpoints: Tensor  # [rows, 5, D]
    top: Tensor  # int64, the stack's row for the next leaf


def leaf_rows(position: Tensor, momentum: Tensor, velocity: Tensor, gradient: Tensor) -> Tensor:
    """Pack a leaf, ``[4, D]``."""
    return torch.stack([position, momentum, velocity, gradient])


def extend(
    key: Tensor,
    density: Density,
    start: Tensor,
    proposal: State,
    size: Tensor,
    step_size: Tensor,
    metric: Metric,
    start_energy: Tensor,
    checkpoints: Tensor,
    max_energy_error: float,
) -> Extension:
    """Visit ``size`` new leaves from the leaf ``start`` on, or fewer if one diverges or a subtree turns.

    :param key: random numbers for the choice among the leaves; may be the same for extensions of other sizes.
    :param start: the trajectory's end, ``[4, D]``, itself not among the new leaves.
    :param proposal: returned if no leaf has weight.
    :param size: int64, a power of two.
    :param step_size: signed: negative goes back in time.
    :param start_energy: energy that errors and weights are relative to.
    :param checkpoints: room for the stack, ``[log2(size) + 1 or more, 5, D]``, its content does not matter.
    :param max_energy_error: energy error above which a leaf counts as diverging.
    """
    minus_infinity = torch.full_like(start_energy, -torch.inf)
    zero = torch.zeros_like(start_energy)
    no_leaves = torch.zeros_like(size)
    no = torch.zeros_like(size, dtype=torch.bool)

    def unfinished(carry: Extension) -> Tensor:
        return (carry.num_leaves < size) & ~(carry.turning | carry.diverging)

    def visit(carry: Extension) -> Extension:
        position, momentum, velocity, gradient = (carry.end.select(0, index) for index in range(4))
        leaf = leapfrog(density, metric, step_size, position, momentum, gradient)
        leaf_velocity = metric.velocity(leaf.momentum)
        energy = kinetic_energy(leaf.momentum, leaf_velocity) - leaf.log_density
        error = energy - start_energy
        # Written so that a NaN, too, counts as diverging.
        diverging = ~((error < max_energy_error) & (error > -torch.inf))
        log_weight = torch.where(diverging, minus_infinity, -error)
        total = torch.logaddexp(carry.log_weight, log_weight)

        # Multinomial sampling by a reservoir with jumps: a random number per change of the proposal, not per
        # leaf (Efraimidis & Spirakis 2006, algorithm A-ExpJ, for a sample of one).
        def take() -> tuple[State, Tensor, Tensor]:
            uniform = random.uniform(random.fold_in(key, size + carry.num_leaves))
            return State(leaf.position, leaf.log_density, leaf.gradient), energy, total - torch.log(uniform)

        def keep() -> tuple[State, Tensor, Tensor]:
            return carry.proposal, carry.energy, carry.threshold

        chosen, chosen_energy, threshold = cond(total > carry.threshold, take, keep)
        sum_before = carry.momentum_sum
        momentum_sum = sum_before + leaf.momentum
        checkpoint = torch.stack([leaf_velocity, sum_before, momentum_sum, velocity, sum_before - momentum])
        checkpoints = carry.checkpoints.index_copy(0, carry.top.reshape(1), checkpoint.unsqueeze(0))
        row, turning = _merge(checkpoints, carry.top, carry.num_leaves, momentum_sum, leaf_velocity)
        return Extension(
            end=leaf_rows(leaf.position, leaf.momentum, leaf_velocity, leaf.gradient),
            momentum_sum=momentum_sum,
            proposal=chosen,
            energy=chosen_energy,
            log_weight=total,
            threshold=threshold,
            num_leaves=carry.num_leaves + 1,
            acceptance_sum=carry.acceptance_sum + torch.exp(log_weight.clamp(max=0.0)),
            turning=turning,
            diverging=diverging,
            checkpoints=checkpoints,
            top=row + 1,
        )

    empty = Extension(
        end=start,
        momentum_sum=torch.zeros_like(proposal.position),
        proposal=proposal,
        energy=start_energy,
        log_weight=minus_infinity,
        threshold=minus_infinity,
        num_leaves=no_leaves,
        acceptance_sum=zero,
        turning=no,
        diverging=no,
        checkpoints=checkpoints,
        top=no_leaves,
    )
    return while_loop(unfinished, visit, empty)


def _merge(
    checkpoints: Tensor, top: Tensor, leaf: Tensor, momentum_sum: Tensor, velocity: Tensor
) -> tuple[Tensor, Tensor]:
    """Join the complete subtrees that end at ``leaf`` with their left halves, and check each for a U-turn.

    Returns the row of the joined subtree, and whether one of them turns.
    """

    def pending(carry: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        bits, _, turning = carry
        return ((bits & 1) == 1) & ~turning

    def join(carry: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        bits, row, _ = carry
        left, right = select_row(checkpoints, row - 1), select_row(checkpoints, row)
        sum_before = left.select(0, SUM_BEFORE)
        turning = is_turning(
            whole=momentum_sum - sum_before,
            left_and_seam=right.select(0, SUM_WITH) - sum_before,
            seam_and_right=momentum_sum - right.select(0, SUM_BEFORE_SEAM),
            first=left.select(0, FIRST_VELOCITY),
            seam_left=right.select(0, SEAM_VELOCITY),
            seam_right=right.select(0, FIRST_VELOCITY),
            last=velocity,
        )
        return bits >> 1, row - 1, turning

    _, row, turning = while_loop(pending, join, (leaf, top, torch.zeros_like(leaf, dtype=torch.bool)))
    return row, turning


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
    products = (
        torch.dot(whole, first),
        torch.dot(whole, last),
        torch.dot(left_and_seam, first),
        torch.dot(left_and_seam, seam_right),
        torch.dot(seam_and_right, seam_left),
        torch.dot(seam_and_right, last),
    )
    least = products[0]
    for product in products[1:]:
        least = torch.minimum(least, product)
    return ~(least > 0.0)


def select_row(rows: Tensor, index: Tensor) -> Tensor:
    """Select ``rows[index]`` by a scalar tensor, without reading its value in Python."""
    return rows.index_select(0, index.reshape(1)).squeeze(0)
