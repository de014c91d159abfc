"""Give plates the batch dimensions that no enclosing plate uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, NamedTuple

from ember.errors import message


class CondIndepStackFrame(NamedTuple):
    """One enclosing plate of a site; equality leaves ``full_size`` out."""

    name: str
    dim: int | None  # negative batch dimension, or None in a sequential plate
    size: Any  # size of the minibatch, -1 if the plate only claims a dimension
    counter: int  # number of the iteration of a sequential plate, from 1; 0 if vectorised
    full_size: Any = None  # size before subsampling

    @property
    def vectorized(self) -> bool:
        """Whether the plate is a batch dimension rather than a loop."""
        return self.dim is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CondIndepStackFrame) and self[:4] == other[:4]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.name, self.dim, self.counter, int(self.size)))


class DimAllocator:
    """Claim batch dimensions by hand, for handlers that are like plates; what is claimed is context-local.

    Third parties reach the one instance as ``ember.poutine.runtime._DIM_ALLOCATOR``.

    :param active: returns the frames of the active plates.
    """

    _claimed: ContextVar[tuple[CondIndepStackFrame, ...]] = ContextVar("ember_claimed_plates", default=())

    def __init__(self, active: Callable[[], list[CondIndepStackFrame]]) -> None:
        self._active = active

    @property
    def claimed(self) -> tuple[CondIndepStackFrame, ...]:
        """Frames of what is taken now."""
        return self._claimed.get()

    def allocate(self, name: str, dim: int | None) -> int:
        """Return a dim for a plate, the rightmost free one if ``dim`` is None; it is taken until freed.

        :raises ValueError: if ``dim`` is taken or not negative, or a plate of this name is active.
        """
        if dim is not None and dim >= 0:
            raise ValueError(f"plate '{name}': dim must be negative, counted from the right, got {dim}")
        dim = claim_plate(name, dim, self._active())
        self._claimed.set((*self.claimed, CondIndepStackFrame(name, dim, -1, 0)))
        return dim

    def free(self, name: str, dim: int) -> None:
        """Give a dim back.

        :raises ValueError: unless it was allocated for that name.
        """
        rest = tuple(frame for frame in self.claimed if (frame.name, frame.dim) != (name, dim))
        if len(rest) == len(self.claimed):
            raise ValueError(f"plate '{name}' has not claimed dim={dim}")
        self._claimed.set(rest)


def claim_plate(name: str, dim: int | None, active: list[CondIndepStackFrame]) -> int:
    """Return the batch dimension that a plate gets on entry: ``dim`` if free, or the rightmost free one.

    :param active: frames of the plates around it.
    :raises ValueError: if ``dim`` is taken, or a plate of this name is active.
    """
    if not active:
        return -1 if dim is None else dim
    refuse_duplicate_plate(name, active)
    taken = {frame.dim: frame for frame in active}
    if dim is None:
        dim = -1
        while dim in taken:
            dim -= 1
    elif dim in taken:
        free = min(other for other in taken if other is not None) - 1
        raise ValueError(
            message(
                f"plates '{taken[dim].name}' and '{name}' collide at dim={dim}",
                site=name,
                plates=active,
                expected=f"a batch dimension for '{name}' that no enclosing plate uses",
                actual=f"dim={dim}, which is the dim of '{taken[dim].name}'",
                fix=f"give one of them another dim, e.g. plate('{name}', ..., dim={free})",
            )
        )
    return dim


def refuse_duplicate_plate(name: str, active: Iterable[CondIndepStackFrame]) -> None:
    """Raise ValueError if a plate of this name is among the active ones."""
    if any(frame.name == name for frame in active):
        raise ValueError(
            message(
                f"duplicate plate '{name}'",
                site=name,
                plates=active,
                expected="nested plates of different names, each entered once at a time",
                actual=f"a plate named '{name}' is already active",
                fix="use another name, or leave the first plate before entering it again",
            )
        )
