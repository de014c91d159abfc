"""Carry a draw from unconstrained space to a site's support, as a point with its density."""

from __future__ import annotations

from typing import Any

import torch
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


def unflatten(flat: Tensor, site: Any, shape: Any) -> Tensor:
    """Give the vector of a site's unconstrained values its shape.

    :param flat: ``batch + (shape.numel(),)``, drawn outside of the site's plates.
    :param site: the site in the model.
    :param shape: of its unconstrained value.
    """
    batch = flat.shape[:-1]
    # Vectorised particles are a dim left of all plates, with dims of size 1 where the plates go.
    particles = batch[: max(0, len(batch) - len(site["fn"].batch_shape))]
    return flat.reshape(particles + shape)


def normal_quantiles(quantiles: Any, loc: Tensor, scale: Tensor, transform: Any) -> Tensor:
    """Return quantiles of independent normal variables, carried to a site's support.

    :param quantiles: probabilities, a list or a vector.
    :param loc: of the shape of the site's unconstrained value, like ``scale``.
    :param transform: the bijection to the site's support; a vector bijection is applied to the quantiles.
    :returns: ``(len(quantiles),) + site shape``.
    """
    levels = torch.as_tensor(quantiles, dtype=loc.dtype, device=loc.device)
    standard = torch.special.ndtri(levels.reshape((-1,) + (1,) * loc.ndim))
    return transform(loc + scale * standard)
