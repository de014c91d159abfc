"""Keep the draws of one chain."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Store(Protocol):
    """Where the loop puts draws; the same four methods for memory and for anything else."""

    def append(self, positions: Tensor, statistics: dict[str, Tensor]) -> None:
        """Add draws: positions ``[n, D]``, and by name statistics ``[n]``."""

    def view(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what was added so far."""

    def flush(self) -> None:
        """Make sure that what was added survives."""

    def finish(self) -> None:
        """Take note that nothing more will come."""

    def __len__(self) -> int:
        """Return the number of draws that were added."""


class MemoryStore:
    """Keep draws in tensors that are allocated once.

    :param capacity: number of draws that will come.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._count = 0
        self._positions: Tensor | None = None
        self._statistics: dict[str, Tensor] = {}

    def append(self, positions: Tensor, statistics: dict[str, Tensor]) -> None:
        """Add draws."""
        stop = self._count + positions.shape[0]
        if self._positions is None:
            self._positions = positions.new_empty((self._capacity, positions.shape[1]))
            self._statistics = {name: value.new_empty(self._capacity) for name, value in statistics.items()}
        self._positions[self._count : stop] = positions
        for name, value in statistics.items():
            self._statistics[name][self._count : stop] = value
        self._count = stop

    def view(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what was added so far; no copies."""
        if self._positions is None:
            return torch.empty((0, 0), dtype=torch.float64), {}
        return self._positions[: self._count], {
            name: value[: self._count] for name, value in self._statistics.items()
        }

    def flush(self) -> None:
        """Do nothing: memory needs no flushing."""

    def finish(self) -> None:
        """Give back the room that was not used."""
        if self._positions is not None and self._count < self._capacity:
            self._positions = self._positions[: self._count].clone()
            self._statistics = {
                name: value[: self._count].clone() for name, value in self._statistics.items()
            }

    def __len__(self) -> int:
        return self._count


def statistics_of(info: Any) -> dict[str, Any]:
    """Return a kernel's Info as a dict."""
    return dict(info._asdict())
