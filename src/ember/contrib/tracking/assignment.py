"""Infer which objects exist and which detection belongs to which object, exactly or by belief propagation."""

from __future__ import annotations

import torch
from torch import Tensor

import ember.distributions as dist
from ember.contrib.tracking.assignment_logits import (
    check_logits,
    conditional_logits,
    excluded_sum,
    subsets,
    with_spurious,
)
from ember.contrib.tracking.persistent_assignment import (
    MarginalAssignmentPersistent,
    compute_marginals_persistent,
    compute_marginals_persistent_bp,
)
from ember.errors import message

__all__ = [
    "MarginalAssignment",
    "MarginalAssignmentPersistent",
    "MarginalAssignmentSparse",
    "compute_marginals",
    "compute_marginals_bp",
    "compute_marginals_persistent",
    "compute_marginals_persistent_bp",
    "compute_marginals_sparse_bp",
]


class MarginalAssignment:
    """Marginals of objects' existence and of detections' assignment to them.

    Each detection belongs to one existing object, or to none (it is spurious); an object may have any number
    of detections. A configuration of existing objects e and assignments a has the weight
    exp(Σ exists_logits[i] over existing i + Σ assign_logits[j, a_j] over assigned j).

    :param exists_logits: ``(num_objects,)``.
    :param assign_logits: ``(num_detections, num_objects)``.
    :param bp_iters: number of iterations of belief propagation; by default marginals are exact, at a cost
        that is exponential in the number of objects.
    :ivar exists_dist: Bernoulli, ``(num_objects,)``.
    :ivar assign_dist: Categorical, ``(num_detections,)``, whose last value is for spurious detections.
    :raises ValueError: if the shapes disagree.
    """

    def __init__(self, exists_logits: Tensor, assign_logits: Tensor, bp_iters: int | None = None) -> None:
        check_logits(exists_logits, assign_logits, 2)
        self.num_detections, self.num_objects = assign_logits.shape
        if bp_iters is None:
            exists, assign = compute_marginals(exists_logits, assign_logits)
        else:
            exists, assign = compute_marginals_bp(exists_logits, assign_logits, bp_iters)
        self.exists_dist = dist.Bernoulli(logits=exists)
        self.assign_dist = dist.Categorical(logits=with_spurious(assign))


class MarginalAssignmentSparse:
    """The form of :class:`MarginalAssignment` for many objects and detections few pairs of which can match.

    :param num_objects: number of objects.
    :param num_detections: number of detections.
    :param edges: the pairs, indices of detections and of objects, ``(2, num_edges)``.
    :param exists_logits: ``(num_objects,)``.
    :param assign_logits: of each pair, ``(num_edges,)``.
    :param bp_iters: number of iterations of belief propagation.
    :ivar exists_dist: Bernoulli, ``(num_objects,)``.
    :ivar assign_dist: Categorical, ``(num_detections,)``, whose last value is for spurious detections.
    :raises ValueError: if the shapes disagree.
    """

    def __init__(
        self,
        num_objects: int,
        num_detections: int,
        edges: Tensor,
        exists_logits: Tensor,
        assign_logits: Tensor,
        bp_iters: int,
    ) -> None:
        self.num_objects, self.num_detections = num_objects, num_detections
        self.edges = edges
        exists, assign = compute_marginals_sparse_bp(
            num_objects, num_detections, edges, exists_logits, assign_logits, bp_iters
        )
        dense = assign.new_full((num_detections, num_objects), -torch.inf)
        dense = dense.index_put((edges[0], edges[1]), assign)
        self.exists_dist = dist.Bernoulli(logits=exists)
        self.assign_dist = dist.Categorical(logits=with_spurious(dense))


def compute_marginals(exists_logits: Tensor, assign_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return exact logits of existence, and of assignments against being spurious, by enumeration.

    :param exists_logits: ``(num_objects,)``.
    :param assign_logits: ``(num_detections, num_objects)``.
    """
    existing = subsets(exists_logits)  # (2 ** num_objects, num_objects)
    # Given the objects, detections are independent: each is assigned to an existing one or to none.
    reachable = torch.where(existing.unsqueeze(1), assign_logits, -torch.inf)
    choices = torch.cat([reachable, torch.zeros_like(reachable[..., :1])], -1)
    totals = choices.logsumexp(-1)
    joint = torch.where(existing, exists_logits, 0.0).sum(-1) + totals.sum(-1)
    exists = conditional_logits(joint, existing)
    assigned = (choices - totals.unsqueeze(-1) + joint[:, None, None]).logsumexp(0)
    return exists, assigned[:, :-1] - assigned[:, -1:]


def compute_marginals_bp(
    exists_logits: Tensor, assign_logits: Tensor, bp_iters: int
) -> tuple[Tensor, Tensor]:
    """Return logits as :func:`compute_marginals`, by belief propagation.

    :param bp_iters: number of iterations.
    """
    to_exists = torch.zeros_like(assign_logits)
    for _ in range(bp_iters):
        to_assign = assign_logits + torch.nn.functional.logsigmoid(
            exists_logits + to_exists.sum(0) - to_exists
        )
        others = excluded_sum(to_assign.exp(), -1)
        to_exists = torch.log1p(assign_logits.exp() / (1.0 + others))
    belief = exists_logits + to_exists.sum(0)
    return belief, assign_logits + torch.nn.functional.logsigmoid(belief - to_exists)


def compute_marginals_sparse_bp(
    num_objects: int,
    num_detections: int,
    edges: Tensor,
    exists_logits: Tensor,
    assign_logits: Tensor,
    bp_iters: int,
) -> tuple[Tensor, Tensor]:
    """Return logits of existence, and of each pair's assignment, by belief propagation.

    :param num_objects: number of objects.
    :param num_detections: number of detections.
    :param edges: indices of detections and objects, ``(2, num_edges)``.
    :param exists_logits: ``(num_objects,)``.
    :param assign_logits: ``(num_edges,)``.
    :param bp_iters: number of iterations.
    :raises ValueError: if the shapes disagree.
    """
    if exists_logits.shape != (num_objects,) or edges.shape != (2, *assign_logits.shape):
        raise ValueError(
            message(
                "Logits and edges of an assignment do not fit together.",
                expected=f"exists_logits ({num_objects},), edges (2, E), assign_logits (E,)",
                actual=f"{tuple(exists_logits.shape)}, {tuple(edges.shape)}, {tuple(assign_logits.shape)}",
            )
        )
    detections, objects = edges

    def total(values: Tensor, size: int, index: Tensor) -> Tensor:
        return values.new_zeros(size).index_add(0, index, values)[index]

    to_exists = torch.zeros_like(assign_logits)
    for _ in range(bp_iters):
        others = total(to_exists, num_objects, objects) - to_exists
        to_assign = assign_logits + torch.nn.functional.logsigmoid(exists_logits[objects] + others)
        weights = to_assign.exp()
        rivals = (total(weights, num_detections, detections) - weights).clamp(min=0.0)
        to_exists = torch.log1p(assign_logits.exp() / (1.0 + rivals))
    belief = exists_logits.index_add(0, objects, to_exists)
    return belief, assign_logits + torch.nn.functional.logsigmoid(belief[objects] - to_exists)
