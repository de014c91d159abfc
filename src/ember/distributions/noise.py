"""Draw parameter-free noise of a distribution's shape and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def unfilled(like: Tensor, distribution: Any, sample_shape: Sequence[int]) -> Tensor:
    """Return an uninitialised tensor of shape ``sample_shape + batch_shape``, without gradient.

    :param like: a parameter of shape ``batch_shape``, for dtype and device.
    """
    if not sample_shape:
        return torch.empty_like(like, requires_grad=False)
    return torch.empty(
        torch.Size(sample_shape) + distribution._batch_shape, dtype=like.dtype, device=like.device
    )


def gaussian(like: Tensor, distribution: Any, sample_shape: Sequence[int]) -> Tensor:
    """Draw standard normal noise of shape ``sample_shape + batch_shape``."""
    if not sample_shape:
        return torch.randn_like(like)
    return unfilled(like, distribution, sample_shape).normal_()


def uniform(like: Tensor, distribution: Any, sample_shape: Sequence[int]) -> Tensor:
    """Draw uniform noise in [0, 1) of shape ``sample_shape + batch_shape``."""
    if not sample_shape:
        return torch.rand_like(like)
    return unfilled(like, distribution, sample_shape).uniform_()


def open_uniform(like: Tensor, distribution: Any, sample_shape: Sequence[int]) -> Tensor:
    """Draw uniform noise in (0, 1) of shape ``sample_shape + batch_shape``: never 0, never 1."""
    info = torch.finfo(like.dtype)
    return uniform(like, distribution, sample_shape).clamp(min=info.tiny, max=1.0 - info.eps)


def exponential(like: Tensor, distribution: Any, sample_shape: Sequence[int]) -> Tensor:
    """Draw standard exponential noise of shape ``sample_shape + batch_shape``."""
    return unfilled(like, distribution, sample_shape).exponential_()
