"""Refer from a constrained value to its unconstrained leaf, without keeping the leaf alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


class LeafReference(weakref.ref):
    """Refer weakly to a leaf; copies and pickles of the tensor that carries it refer to nothing."""

    def __reduce__(self) -> Any:
        return _reference_to_nothing, ()


def _reference_to_nothing() -> Callable[[], None]:
    return _nothing


def _nothing() -> None:
    return None
