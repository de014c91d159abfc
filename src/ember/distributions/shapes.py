"""Broadcast shapes and sum tensors to their left or right dims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def broadcast_shape(*shapes: Sequence[int], strict: bool = False) -> torch.Size:
    """Return the shape that tensors of the given shapes broadcast to.

    :param strict: refuse to stretch dims of size 1 (dims that are missing are always added).
    :raises ValueError: if the shapes do not fit together.
    """
    result: list[int] = []
    for shape in shapes:
        for i, size in enumerate(reversed(shape)):
            if i >= len(result):
                result.append(size)
            elif result[i] == 1 and not strict:
                result[i] = size
            elif result[i] != size and (strict or size != 1):
                listed = " vs ".join(str(tuple(each)) for each in shapes)
                raise ValueError(f"shape mismatch: objects cannot be broadcast to a single shape: {listed}")
    return torch.Size(reversed(result))


def sum_rightmost(value: Tensor, dim: int) -> Tensor:
    """Sum out the ``dim`` rightmost dims; a negative ``dim`` keeps ``-dim`` leftmost ones.

    Numbers are returned unchanged.
    """
    if dim == 0 or not isinstance(value, Tensor):
        return value
    count = dim if dim > 0 else value.dim() + dim
    return value.sum(tuple(range(-count, 0))) if count > 0 else value


def sum_leftmost(value: Tensor, dim: int) -> Tensor:
    """Sum out the ``dim`` leftmost dims; a negative ``dim`` keeps ``-dim`` rightmost ones.

    Numbers are returned unchanged.
    """
    if dim == 0 or not isinstance(value, Tensor):
        return value
    count = dim if dim > 0 else value.dim() + dim
    return value.sum(tuple(range(count))) if count > 0 else value


def sum_scalars(terms: Sequence[Any]) -> Any:
    """Add up scalar tensors; without any the sum is the number 0."""
    if not terms:
        return 0.0
    if len(terms) > 4 and len({term.device for term in terms}) == 1:
        # One operation, here and in the gradient, in place of many.
        return torch.stack(list(terms)).sum()
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
