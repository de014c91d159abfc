"""Keep the latest draws and gradients of a window, for estimates that need the vectors themselves."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class History(NamedTuple):
    """A ring of the last N draws with their gradients; rows not yet written are zero."""

    draws: Tensor  # [N, D]
    gradients: Tensor  # [N, D]
    num_added: Tensor  # int64


def init(like: Tensor, capacity: int) -> History:
    """Start empty, for vectors shaped and typed as ``like``."""
    rows = like.new_zeros((capacity, like.shape[0]))
    return History(rows, rows, torch.zeros((), dtype=torch.int64))


def update(history: History, draw: Tensor, gradient: Tensor) -> History:
    """Add a draw and its gradient, in the place of the oldest if the ring is full."""
    row = torch.remainder(history.num_added, history.draws.shape[0]).reshape(1)
    return History(
        history.draws.index_copy(0, row, draw.unsqueeze(0)),
        history.gradients.index_copy(0, row, gradient.unsqueeze(0)),
        history.num_added + 1,
    )


def deviations(history: History) -> tuple[Tensor, Tensor, Tensor]:
    """Return draws and gradients minus their means, zero in unused rows, and the number of used rows."""
    capacity = history.draws.shape[0]
    used = history.num_added.clamp(max=capacity)
    mask = (torch.arange(capacity) < used).to(history.draws.dtype).unsqueeze(1)
    size = used.to(history.draws.dtype)
    divisor = size.clamp(min=1.0)
    draws = (history.draws - history.draws.sum(0) / divisor) * mask
    gradients = (history.gradients - history.gradients.sum(0) / divisor) * mask
    return draws, gradients, size
