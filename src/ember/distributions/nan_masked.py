"""Define Gaussians that ignore the entries of a value that are NaN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .multivariate import MultivariateNormal, log_determinant, whiten
from .real import _LOG_NORMALIZER, Normal


class NanMaskedNormal(Normal):
    """A Gaussian whose ``log_prob`` is zero, with zero gradient, where the value is NaN."""

    def _validate_sample(self, value: Tensor) -> None:
        super()._validate_sample(torch.where(value.isnan(), torch.zeros_like(value), value))

    def log_prob(self, value: Tensor) -> Tensor:
        known = ~value.isnan()
        safe = torch.where(known, value, torch.zeros_like(value))
        return torch.where(known, super().log_prob(safe), 0.0)


class NanMaskedMultivariateNormal(MultivariateNormal):
    """A multivariate Gaussian whose ``log_prob`` is that of the coordinates that are not NaN.

    The marginal is computed with shapes that do not depend on where the NaNs are: missing coordinates
    are given covariance one with themselves and zero with all others.
    """

    def _validate_sample(self, value: Tensor) -> None:
        super()._validate_sample(torch.where(value.isnan(), torch.zeros_like(value), value))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        known = ~value.isnan()
        difference = torch.where(known, value - self.loc, 0.0)
        known = known.expand(difference.shape)
        both = known.unsqueeze(-1) & known.unsqueeze(-2)
        identity = torch.eye(value.shape[-1], dtype=self.loc.dtype, device=self.loc.device)
        covariance = torch.where(both, self.covariance_matrix, identity)
        scale_tril = torch.linalg.cholesky(covariance)
        z = whiten(scale_tril, difference)
        constant: Any = _LOG_NORMALIZER[z.dtype]
        return -0.5 * z.square().sum(-1) - log_determinant(scale_tril) + constant * known.sum(-1)
