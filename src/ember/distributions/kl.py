"""Register Kullback–Leibler divergences of ember's own families beside torch's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from .independent import Independent
from .masked import MaskedDistribution
from .multivariate import log_determinant, whiten
from .point import Delta
from .scaling import scale_and_mask

__all__ = ["kl_divergence", "register_kl"]


@register_kl(Delta, torch.distributions.Distribution)
def _kl_delta(p: Delta, q: Any) -> Tensor:
    return p.log_density - q.log_prob(p.v)


@register_kl(MaskedDistribution, MaskedDistribution)
def _kl_masked(p: MaskedDistribution, q: MaskedDistribution) -> Tensor:
    """Divergence where both masks hold, zero elsewhere."""
    mask: bool | Tensor
    if isinstance(p._mask, bool) and isinstance(q._mask, bool):
        mask = p._mask and q._mask
    else:
        mask = torch.as_tensor(p._mask) & torch.as_tensor(q._mask)
    return scale_and_mask(kl_divergence(p.base_dist, q.base_dist), mask=mask)


@register_kl(Independent, torch.distributions.MultivariateNormal)
def _kl_independent_normal_mvn(p: Independent, q: torch.distributions.MultivariateNormal) -> Tensor:
    """Divergence of a diagonal Gaussian from a full one; other bases have none.

    :raises NotImplementedError: unless ``p`` is a Normal with one dim moved into the event.
    """
    base = p.base_dist
    if not isinstance(base, torch.distributions.Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError(f"no divergence between {p} and {q}")
    factor = q._unbroadcasted_scale_tril
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    trace = (inverse.square().sum(-2) * base.variance).sum(-1)
    distance = whiten(factor, q.loc - base.loc).square().sum(-1)
    log_ratio = log_determinant(factor) - base.scale.log().sum(-1)
    return log_ratio + 0.5 * (trace + distance - factor.shape[-1])
