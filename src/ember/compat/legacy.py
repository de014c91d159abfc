"""Keep two names that Pyro gave up long ago for plates, with a warning."""

from __future__ import annotations

import warnings
from typing import Any

from ember.primitives import plate


def iarange(*args: Any, **kwargs: Any) -> plate:
    """Return a :class:`~ember.plate` to be used in a ``with`` statement; deprecated, as is the name."""
    warnings.warn("iarange is deprecated, use plate", DeprecationWarning, stacklevel=2)
    return plate(*args, **kwargs)


def irange(*args: Any, **kwargs: Any) -> plate:
    """Return a :class:`~ember.plate` to be iterated over; deprecated, as is the name."""
    warnings.warn("irange is deprecated, use plate", DeprecationWarning, stacklevel=2)
    return plate(*args, **kwargs)
