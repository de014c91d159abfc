"""Write multivariate normal distributions as densities in information form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...errors import message
from ..independent import Independent
from ..multivariate import MultivariateNormal, log_determinant
from ..real import Normal
from .affine_normal import AffineNormal
from .gaussian import Gaussian
from .quadratic_forms import join_columns, multiply_rows, solve_rows
from .reduction import lean


def mvn_to_gaussian(mvn: Any) -> Gaussian:
    """Return the density of a normal vector.

    :param mvn: a MultivariateNormal (also of low rank), or a Normal with ``.to_event(1)``.
    :raises ValueError: for another distribution.
    """
    if is_diagonal(mvn):
        loc, scale = lean(mvn.base_dist.loc, 1), lean(mvn.base_dist.scale, 1)
        weights = scale.square().reciprocal()
        constant = 0.5 * mvn.event_shape[0] * math.log(2.0 * math.pi)
        log_normalizer = -(0.5 * (loc / scale).square() + scale.log()).sum(-1) - constant
        return Gaussian(log_normalizer, loc * weights, torch.diag_embed(weights))
    loc, factor = lean(mvn.loc, 1), scale_tril_of(mvn)
    size = loc.shape[-1]
    identity = torch.eye(size, dtype=loc.dtype, device=loc.device)
    whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
    whitened = solve_rows(factor, loc)
    constant = 0.5 * size * math.log(2.0 * math.pi)
    return Gaussian(
        -0.5 * whitened.square().sum(-1) - log_determinant(factor) - constant,
        multiply_rows(whitened, whitening),
        whitening.mT @ whitening,
    )


def matrix_and_gaussian_to_gaussian(matrix: Tensor, y_gaussian: Gaussian) -> Gaussian:
    """Return the density of (x, y) for y = x matrix + noise, as a function that is flat in x.

    :param matrix: ``batch_shape + (x_dim, y_dim)``.
    :param y_gaussian: density of the noise.
    """
    weighted = matrix @ y_gaussian.precision
    upper = join_columns(weighted @ matrix.mT, -weighted)
    lower = join_columns(-weighted.mT, y_gaussian.precision)
    precision = join_columns(upper.mT, lower.mT).mT
    info_vec = y_gaussian.info_vec
    pulled = -multiply_rows(info_vec, matrix.mT)
    batch = pulled.shape[:-1]
    info_vec = torch.cat([pulled, info_vec.expand(batch + info_vec.shape[-1:])], -1)
    return Gaussian(y_gaussian.log_normalizer, info_vec, precision)


def matrix_and_mvn_to_gaussian(matrix: Tensor, mvn: Any) -> Gaussian | AffineNormal:
    """Return the density of y = x matrix + noise as a function of (x, y).

    :param matrix: ``batch_shape + (x_dim, y_dim)``.
    :param mvn: distribution of the noise; independent normals give an :class:`AffineNormal`.
    """
    size = matrix.shape[-1] if matrix.dim() >= 2 else None
    if size is None or mvn.event_shape != (size,):
        raise ValueError(
            message(
                "The matrix has not as many columns as the noise has entries.",
                expected=f"a matrix (..., x_dim, {mvn.event_shape[0] if mvn.event_shape else 1})",
                actual=f"matrix {tuple(matrix.shape)}, noise of event_shape {tuple(mvn.event_shape)}",
            )
        )
    if is_diagonal(mvn):
        return AffineNormal(matrix, lean(mvn.base_dist.loc, 1), lean(mvn.base_dist.scale, 1))
    return matrix_and_gaussian_to_gaussian(matrix, mvn_to_gaussian(mvn))


def is_diagonal(mvn: Any) -> bool:
    """Whether a distribution is a vector of independent normals.

    :raises ValueError: unless it is that or a multivariate normal.
    """
    if isinstance(
        mvn, torch.distributions.MultivariateNormal | torch.distributions.LowRankMultivariateNormal
    ):
        return False
    if (
        isinstance(mvn, torch.distributions.Independent)
        and isinstance(mvn.base_dist, torch.distributions.Normal)
        and mvn.reinterpreted_batch_ndims == 1
    ):
        return True
    raise ValueError(
        message(
            "A Gaussian model takes normal distributions over vectors.",
            expected=f"{MultivariateNormal.__name__}, or {Normal.__name__}(...).to_event(1)",
            actual=f"{type(mvn).__name__} of event_shape {tuple(getattr(mvn, 'event_shape', ()))}"
            + (f" over {type(mvn.base_dist).__name__}" if isinstance(mvn, Independent) else ""),
            fix="for other noise, use LinearHMM with LinearHMMReparam",
        )
    )


def scale_tril_of(mvn: Any) -> Tensor:
    """Return the Cholesky factor of the covariance, with no more batch dims than were given."""
    if isinstance(mvn, torch.distributions.MultivariateNormal):
        return lean(mvn._unbroadcasted_scale_tril, 2)
    return torch.linalg.cholesky(mvn.covariance_matrix)
