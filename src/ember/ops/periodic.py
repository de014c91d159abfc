"""Tile, accumulate and describe sequences that repeat."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ember.errors import message


def _check(dim: int, **positive: Any) -> None:
    for name, value in positive.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(message(f"{name} must be a positive int.", actual=repr(value)))
    if dim >= 0:
        raise ValueError(f"dim must be negative, counted from the right, got {dim}")


def periodic_repeat(tensor: Tensor, size: int, dim: int) -> Tensor:
    """Repeat a period along ``dim`` until it has ``size`` entries.

    :param dim: a negative int.
    :raises ValueError: if the size is not positive.
    """
    _check(dim, size=size)
    index = torch.arange(size, device=tensor.device) % tensor.shape[dim]
    return tensor.index_select(dim, index)


def periodic_cumsum(tensor: Tensor, period: int, dim: int) -> Tensor:
    """Add up along ``dim`` what is a whole number of periods apart.

    :param dim: a negative int.
    :raises ValueError: if the period is not positive.
    """
    _check(dim, period=period)
    size = tensor.shape[dim]
    x = tensor.movedim(dim, -1)
    padded = torch.nn.functional.pad(x, (0, -size % period))
    sums = padded.unflatten(-1, (-1, period)).cumsum(-2).flatten(-2)
    return sums[..., :size].movedim(-1, dim)


def periodic_features(
    duration: int, max_period: float | None = None, min_period: float | None = None, **options: Any
) -> Tensor:
    """Return cosines and negative sines of all harmonics of a period, as ``(duration, F)``.

    :param max_period: the longest period, by default ``duration``.
    :param min_period: what all periods exceed, at least 2, by default 2.
    :param options: dtype and device.
    :raises ValueError: unless ``2 <= min_period <= max_period``.
    """
    longest = duration if max_period is None else max_period
    shortest = 2 if min_period is None else min_period
    if not 2 <= shortest <= longest:
        raise ValueError(
            message(
                "The periods of periodic_features are out of order.",
                expected="2 <= min_period <= max_period",
                actual=f"min_period {shortest}, max_period {longest}",
            )
        )
    time = torch.arange(float(duration), **options).unsqueeze(-1)
    # The shortest period itself is left out: at 2, its sine vanishes at whole times.
    harmonics = torch.arange(1.0, longest / shortest, **options)
    phase = math.pi * torch.cat([torch.full_like(harmonics, 0.5), torch.ones_like(harmonics)])
    return torch.sin(2.0 * math.pi / longest * time * torch.cat([harmonics, harmonics]) + phase)
