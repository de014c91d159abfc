"""Compute rearrangements of elements from simpler operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def block_diagonal(tensors: Sequence[Tensor]) -> Tensor:
    matrices = [each.reshape(1, -1) if each.dim() < 2 else each for each in tensors]
    dtype = matrices[0].dtype
    for each in matrices[1:]:
        dtype = torch.promote_types(dtype, each.dtype)
    width, rows, left = sum(each.shape[1] for each in matrices), [], 0
    for each in matrices:
        right = width - left - each.shape[1]
        rows.append(torch.constant_pad_nd(each.to(dtype), (left, right), 0))
        left += each.shape[1]
    return torch.cat(rows)


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    *batch, channels, height, width = x.shape
    parts = x.reshape(*batch, channels // factor**2, factor, factor, height, width)
    return _between(parts, len(batch), (0, 3, 1, 4, 2)).reshape(
        *batch, channels // factor**2, height * factor, width * factor
    )


def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    *batch, channels, height, width = x.shape
    parts = x.reshape(*batch, channels, height // factor, factor, width // factor, factor)
    return _between(parts, len(batch), (0, 2, 4, 1, 3)).reshape(
        *batch, channels * factor**2, height // factor, width // factor
    )


def _between(x: Tensor, batch: int, order: Sequence[int]) -> Tensor:
    """Permute the dimensions after those of the batch."""
    return x.permute(*range(batch), *(batch + each for each in order))


def linspace(start: Any, end: Any, steps: int, *, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    dtype = torch.get_default_dtype() if dtype is None else dtype
    start, end = (each.to(dtype) if isinstance(each, Tensor) else each for each in (start, end))
    if steps == 1:
        return torch.zeros(1, dtype=dtype) + start
    # From both ends towards the middle, as the eager kernel does.
    places = torch.arange(steps, dtype=dtype)
    step = (end - start) / (steps - 1)
    return torch.where(places < steps // 2, start + step * places, end - step * (steps - 1 - places))
