"""Infer assignments in frames in which an object is detected at most once."""

from __future__ import annotations

import itertools

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


class MarginalAssignmentPersistent:
    """Marginals of objects' existence, and of detections' assignment in several frames.

    In each frame a detection belongs to one existing object or to none, and an object has one detection or
    none. Williams & Lau (2014), Approximate evaluation of marginal association probabilities with belief
    propagation.

    :param exists_logits: ``(num_objects,)``.
    :param assign_logits: ``(num_frames, num_detections, num_objects)``.
    :param bp_iters: number of iterations of belief propagation; by default marginals are exact, at a cost
        that is exponential in the numbers of objects and detections.
    :param bp_momentum: weight of the old messages in each iteration, in [0, 1).
    :ivar exists_dist: Bernoulli, ``(num_objects,)``.
    :ivar assign_dist: Categorical, ``(num_frames, num_detections)``, whose last value is for spurious
        detections.
    :raises ValueError: if the shapes disagree.
    """

    def __init__(
        self,
        exists_logits: Tensor,
        assign_logits: Tensor,
        bp_iters: int | None = None,
        bp_momentum: float = 0.5,
    ) -> None:
        check_logits(exists_logits, assign_logits, 3)
        self.num_frames, self.num_detections, self.num_objects = assign_logits.shape
        if bp_iters is None:
            exists, assign = compute_marginals_persistent(exists_logits, assign_logits)
        else:
            exists, assign = compute_marginals_persistent_bp(
                exists_logits, assign_logits, bp_iters, bp_momentum
            )
        self.exists_dist = dist.Bernoulli(logits=exists)
        self.assign_dist = dist.Categorical(logits=with_spurious(assign))


def compute_marginals_persistent(exists_logits: Tensor, assign_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return exact logits of existence, and of assignments against being spurious, by enumeration.

    :param exists_logits: ``(num_objects,)``.
    :param assign_logits: ``(num_frames, num_detections, num_objects)``.
    """
    _, num_detections, num_objects = assign_logits.shape
    existing = subsets(exists_logits)  # (S, num_objects)
    choices = torch.tensor(
        [
            choice
            for choice in itertools.product(range(num_objects + 1), repeat=num_detections)
            if len({*choice} - {num_objects}) == sum(each < num_objects for each in choice)
        ]
    ).reshape(-1, num_detections)  # (C, num_detections); num_objects stands for none
    chosen = torch.nn.functional.one_hot(
        choices, num_objects + 1
    ).bool()  # (C, num_detections, num_objects + 1)
    padded = with_spurious(assign_logits).unsqueeze(1)
    weights = torch.where(chosen, padded, 0.0).sum((-1, -2))  # (num_frames, C)
    allowed = ~(chosen[..., :-1].any(1).unsqueeze(0) & ~existing.unsqueeze(1)).any(-1)  # (S, C)
    weights = torch.where(allowed.unsqueeze(1), weights, -torch.inf)  # (S, num_frames, C)
    totals = weights.logsumexp(-1)
    joint = torch.where(existing, exists_logits, 0.0).sum(-1) + totals.sum(-1)
    of_choices = (weights - totals.unsqueeze(-1) + joint[:, None, None]).logsumexp(0)  # (num_frames, C)
    of_pairs = torch.where(chosen, of_choices[..., None, None], -torch.inf).logsumexp(1)
    return conditional_logits(joint, existing), of_pairs[..., :-1] - of_pairs[..., -1:]


def compute_marginals_persistent_bp(
    exists_logits: Tensor, assign_logits: Tensor, bp_iters: int, bp_momentum: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Return logits as :func:`compute_marginals_persistent`, by belief propagation.

    :param bp_iters: number of iterations.
    :param bp_momentum: weight of the old messages in each iteration, in [0, 1).
    """
    weights = assign_logits.exp()
    from_detections = torch.zeros_like(weights)  # odds that a detection gives an object, (F, D, O)
    for _ in range(bp_iters):
        new = weights / (1.0 + excluded_sum(weights * _from_objects(exists_logits, from_detections), 2))
        from_detections = bp_momentum * from_detections + (1.0 - bp_momentum) * new
    frames = torch.log1p(from_detections.sum(1))
    exists = exists_logits + frames.sum(0)
    return exists, assign_logits + _from_objects(exists_logits, from_detections).log()


def _from_objects(exists_logits: Tensor, from_detections: Tensor) -> Tensor:
    """Return the odds that objects give detections: of existing, and having no other one in the frame."""
    frames = torch.log1p(from_detections.sum(1))  # (F, O)
    elsewhere = exists_logits + frames.sum(0) - frames
    odds = elsewhere.exp().unsqueeze(1)
    return odds / (1.0 + odds * (1.0 + excluded_sum(from_detections, 1)))
