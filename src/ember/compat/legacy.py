"""Keep names that Pyro gave up long ago, with a warning."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

from ember.distributions import LKJCholesky
from ember.primitives import plate

# The operations of each kind that a cache of intermediate results saved; ember keeps no such cache.
LAST_CACHE_SIZE: list[Counter[str]] = [Counter()]


class LKJCorrCholesky(LKJCholesky):
    """An older name of :class:`~ember.distributions.LKJCholesky`; deprecated.

    :param d: number of rows.
    :param eta: concentration, positive.
    """

    def __init__(self, d: int, eta: Any, validate_args: bool | None = None) -> None:
        warnings.warn("LKJCorrCholesky is deprecated, use LKJCholesky(d, eta)", FutureWarning, stacklevel=2)
        super().__init__(d, eta, validate_args=validate_args)


def iarange(*args: Any, **kwargs: Any) -> plate:
    """Return a :class:`~ember.plate` to be used in a ``with`` statement; deprecated, as is the name."""
    warnings.warn("iarange is deprecated, use plate", DeprecationWarning, stacklevel=2)
    return plate(*args, **kwargs)


def irange(*args: Any, **kwargs: Any) -> plate:
    """Return a :class:`~ember.plate` to be iterated over; deprecated, as is the name."""
    warnings.warn("irange is deprecated, use plate", DeprecationWarning, stacklevel=2)
    return plate(*args, **kwargs)
