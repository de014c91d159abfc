"""Accumulate running means, variances and covariances.

Welford 1962; the matrix form is that of Chan, Golub & LeVeque 1983.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """What has been seen of a sequence of vectors."""

    size: Tensor  # [], float, how many
    mean: Tensor  # [D]
    scatter: Tensor  # [D] or [D, D], sum of squares or products of deviations from the mean


def init(like: Tensor, dense: bool = False) -> Moments:
    """Start with nothing seen of vectors like ``like``, ``[D]``, with a matrix of products if ``dense``."""
    dimension = like.shape[0]
    shape = (dimension, dimension) if dense else (dimension,)
    return Moments(like.new_zeros(()), torch.zeros_like(like), like.new_zeros(shape))


def update(moments: Moments, value: Tensor) -> Moments:
    """Take one more vector ``[D]`` into account."""
    size = moments.size + 1.0
    before = value - moments.mean
    mean = moments.mean + before / size
    after = value - mean
    product = before.unsqueeze(1) * after if moments.scatter.dim() == 2 else before * after
    return Moments(size, mean, moments.scatter + product)


def covariance(moments: Moments) -> Tensor:
    """Return the unbiased variances ``[D]`` or covariances ``[D, D]``; zeros before the second vector."""
    return moments.scatter / (moments.size - 1.0).clamp(min=1.0)


def shrunk(moments: Moments) -> Tensor:
    """Return the covariance shrunk towards 10⁻³ I with the weight of five observations, as Stan does.

    The rule is in the Stan reference manual, chapter *MCMC sampling*, section on automatic parameter tuning.
    """
    weight = moments.size / (moments.size + 5.0)
    floor = 1e-3 * (1.0 - weight)
    estimate = weight * covariance(moments)
    if estimate.dim() == 1:
        return estimate + floor
    return estimate + floor * torch.eye(estimate.shape[0], dtype=estimate.dtype)
