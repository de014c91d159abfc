"""Mark sites as independent along a batch dimension or over the iterations of a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ember.errors import message
from ember.poutine.messenger import Messenger
from ember.poutine.plate_dims import claim_plate, refuse_duplicate_plate
from ember.poutine.runtime import CondIndepStackFrame, Message, active_plates


class IndepMessenger(Messenger):
    """Add a frame to the ``cond_indep_stack`` of the sites inside.

    :param name: name of the plate.
    :param size: number of independent elements, or None.
    :param dim: negative batch dimension; by default the rightmost free one at first entry.
    :param device: device of the indices.
    :raises ValueError: for a dim that is not negative, or a size that is not positive.
    """

    def __init__(
        self, name: str, size: Any = None, dim: int | None = None, device: torch.device | str | None = None
    ) -> None:
        if dim is not None and dim >= 0:
            raise ValueError(
                message(
                    f"plate '{name}': dim must be negative, counted from the right of the batch shape",
                    site=name,
                    expected="a negative dim",
                    actual=f"dim={dim}",
                    fix=f"use dim={-dim - 1} or leave it out",
                )
            )
        self.name = name
        self.size = size
        self.dim = dim
        self.device = device
        self.counter = 0
        self._vectorized: bool | None = None
        self._indices: torch.Tensor | None = None

    @property
    def indices(self) -> torch.Tensor:
        """All indices of the plate."""
        if self._indices is None:
            self._indices = torch.arange(int(self.size), dtype=torch.long, device=self.device)
        return self._indices

    def next_context(self) -> None:
        """Begin the next iteration of a sequential plate."""
        self.counter += 1

    def _make_frame(self) -> CondIndepStackFrame:
        return CondIndepStackFrame(self.name, self.dim, self.size, self.counter, self.size)

    def __enter__(self) -> Any:
        if self._vectorized is False:
            refuse_duplicate_plate(self.name, active_plates())
        else:
            self.dim = claim_plate(self.name, self.dim, active_plates())
            self._vectorized = True
        self.plate_frame = self._make_frame()
        return super().__enter__()

    def __iter__(self) -> Iterator[int]:
        if self._vectorized is True or self.dim is not None:
            raise ValueError(
                message(
                    f"cannot use plate '{self.name}' as both vectorised and sequential",
                    site=self.name,
                    expected="a plate without dim that was not used in a with statement",
                    actual=f"dim={self.dim}",
                    fix="make two plates of different names",
                )
            )
        if self.size is None or (isinstance(self.size, int) and self.size < 0):
            raise ValueError(f"plate '{self.name}' has no size to iterate over; give it one")
        self._vectorized = False
        self.counter = 0
        for index in self.indices.tolist():
            self.next_context()
            with self:
                yield index

    def _process_message(self, msg: Message) -> None:
        frame = self.plate_frame
        if frame is not None:
            msg["cond_indep_stack"] = (frame, *msg["cond_indep_stack"])
