"""Compute the normaliser of products of densities that are proportional to a known one."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def log_overlap(first: Any, second: Any, product: Any, value: Tensor) -> Tensor:
    """Return log ∫ first(x) second(x) dx, where the product is proportional to the density ``product``.

    :param value: any value of positive density; the ratio is the same everywhere.
    """
    return first.log_prob(value) + second.log_prob(value) - product.log_prob(value)
