"""Carry a draw from unconstrained space to a site's support, as a point with its density."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions.transforms import identity_transform

from ember.distributions import Delta


def image(transform: Any, free: Tensor, event_dim: int) -> Delta:
    """Return the point that ``free`` stands for, with the log density that the change of variables adds."""
    value = transform(free)
    if transform is identity_transform:
        return Delta(value, event_dim=event_dim)
    log_density = -transform.log_abs_det_jacobian(free, value)
    # A bijection of fewer event dims than the site's leaves dims to sum over.
    extra = log_density.ndim - (value.ndim - event_dim)
    if extra > 0:
        log_density = log_density.sum(tuple(range(-extra, 0)))
    return Delta(value, log_density, event_dim)
