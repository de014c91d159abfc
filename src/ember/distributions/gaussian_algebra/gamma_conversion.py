"""Write normal distributions of unknown common precision as densities over values and precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..multivariate import MultivariateNormal
from .affine_normal import AffineNormal
from .conversion import matrix_and_mvn_to_gaussian, mvn_to_gaussian, scale_tril_of
from .gamma_gaussian import GammaGaussian
from .gaussian import Gaussian


def gamma_and_mvn_to_gamma_gaussian(gamma: torch.distributions.Gamma | None, mvn: Any) -> GammaGaussian:
    """Return the joint density of s and of x, which given s is ``scale_mvn(mvn, s)``.

    :param gamma: distribution of s; None for the conditional density of x given s.
    """
    form = _at_any_precision(mvn_to_gaussian(mvn), mvn)
    if gamma is None:
        return form
    a, b = gamma.concentration, gamma.rate
    # The density of s, as an exponent: (a - 1) log s - b s.
    constant = form.log_normalizer + a * b.log() - a.lgamma()
    return GammaGaussian(constant, form.info_vec, form.precision, form.alpha + a - 1.0, form.beta + b)


def scale_mvn(mvn: Any, s: Tensor) -> MultivariateNormal:
    """Return the normal distribution with the precision multiplied by ``s``, of the batch shape."""
    factor = scale_tril_of(mvn) * s.rsqrt().unsqueeze(-1).unsqueeze(-1)
    return MultivariateNormal(mvn.loc.expand(factor.shape[:-1]), scale_tril=factor)


def matrix_and_mvn_to_gamma_gaussian(matrix: Tensor, mvn: Any) -> GammaGaussian:
    """Return the density of y = x matrix + noise as a function of (x, y, s), s as in :func:`scale_mvn`."""
    gaussian = matrix_and_mvn_to_gaussian(matrix, mvn)
    if isinstance(gaussian, AffineNormal):
        gaussian = gaussian.to_gaussian()
    return _at_any_precision(gaussian, mvn)


def _at_any_precision(gaussian: Gaussian, noise: Any) -> GammaGaussian:
    """Let s scale the precision of a density of noise with mean m and precision P.

    The constant of its exponent is ½ log det P - ½ n log 2π - ½ mᵀ P m: the last term belongs to beta.
    """
    energy = 0.5 * (noise.mean * mvn_to_gaussian(noise).info_vec).sum(-1)
    alpha = torch.full_like(energy, 0.5 * noise.event_shape[0])
    return GammaGaussian(
        gaussian.log_normalizer + energy, gaussian.info_vec, gaussian.precision, alpha, energy
    )
