"""Hand out batch dimensions, left of all plates, in which sites hold all their values."""

from __future__ import annotations

import itertools
from collections.abc import Container
from contextvars import ContextVar

_ids = itertools.count()  # of variables; never used twice in a process
_first: ContextVar[int] = ContextVar("ember_first_enumeration_dim", default=-1)


class EnumAllocator:
    """Allocate enumeration dims; what is in use is for the caller to say, the first dim is context-local.

    Third parties reach the one instance as ``ember.poutine.runtime._ENUM_ALLOCATOR``.
    """

    def set_first_available_dim(self, first_available_dim: int) -> None:
        """Set the rightmost dim that may be given.

        :raises ValueError: unless it is negative.
        """
        if first_available_dim >= 0:
            raise ValueError(f"first_available_dim must be negative, got {first_available_dim}")
        _first.set(first_available_dim)

    def allocate(
        self, scope_dims: Container[int] = (), first_available_dim: int | None = None
    ) -> tuple[int, int]:
        """Return the rightmost dim that is not among ``scope_dims``, and a new variable's id."""
        dim = _first.get() if first_available_dim is None else first_available_dim
        while dim in scope_dims:
            dim -= 1
        return dim, next(_ids)


ENUM_ALLOCATOR = EnumAllocator()
