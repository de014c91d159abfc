"""Compute with logits of assignments, as their exact and approximate solvers need."""

from __future__ import annotations

import torch
from torch import Tensor

from ember.errors import message


def check_logits(exists_logits: Tensor, assign_logits: Tensor, dims: int) -> None:
    """Refuse logits that do not fit together.

    :param dims: number of dims that ``assign_logits`` has to have.
    :raises ValueError: naming both shapes.
    """
    fits = exists_logits.dim() == 1 and assign_logits.dim() == dims
    if not fits or assign_logits.shape[-1:] != exists_logits.shape:
        raise ValueError(
            message(
                "Logits of an assignment do not fit together.",
                expected="exists_logits (num_objects,), assign_logits "
                + ("(num_detections, num_objects)" if dims == 2 else "(frames, num_detections, num_objects)"),
                actual=f"{tuple(exists_logits.shape)}, {tuple(assign_logits.shape)}",
            )
        )


def with_spurious(assign: Tensor) -> Tensor:
    """Return logits with that of a spurious detection, 0, as the last."""
    return torch.cat([assign, torch.zeros_like(assign[..., :1])], -1)


def subsets(like: Tensor) -> Tensor:
    """Return all subsets of ``n`` things as booleans, ``(2 ** n, n)``."""
    size = like.shape[0]
    codes = torch.arange(2**size, device=like.device)
    return (codes.unsqueeze(-1) >> torch.arange(size, device=like.device)) % 2 == 1


def conditional_logits(joint: Tensor, existing: Tensor) -> Tensor:
    """Return the logit of each thing's being in a subset, given log weights of all subsets."""
    inside = torch.where(existing, joint.unsqueeze(-1), -torch.inf).logsumexp(0)
    outside = torch.where(existing, -torch.inf, joint.unsqueeze(-1)).logsumexp(0)
    return inside - outside


def excluded_sum(values: Tensor, dim: int) -> Tensor:
    """Return the sums of all other entries along a dim, never below zero."""
    return (values.sum(dim, keepdim=True) - values).clamp(min=0.0)
