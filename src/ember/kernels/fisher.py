"""Estimate inverse mass matrices that minimise the Fisher divergence, from draws and gradients together.

Seyboldt, Carlson & Carpenter, arXiv 2603.18845. The best Σ satisfies Σ Cov[∇ log π] Σ = Cov[z]: it is the
geometric mean of Cov[z] and Cov[∇ log π]⁻¹, and for a Gaussian the exact covariance as soon as the draws span
the space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ember.kernels import history, metric, variance
from ember.kernels.history import History
from ember.kernels.variance import Moments

_SMALLEST, _LARGEST = 1e-20, 1e20
# Added to the covariances, in units of the best diagonal: directions without data get the eigenvalue one.
_RIDGE = 1e-2
# Eigenvalues between 1/_CUTOFF and _CUTOFF are left to the diagonal.
_CUTOFF = 2.0


def from_gradient(gradient: Tensor) -> Tensor:
    """Guess variances ``[D]`` from one gradient, 1 / |gradient|, and 1 where it vanishes."""
    size = gradient.abs()
    known = (size > 1e-10) & (size < 1e10)
    return 1.0 / torch.where(known, size, torch.ones_like(size))


def diagonal(draws: Moments, gradients: Moments, fallback: Tensor) -> Tensor:
    """Return variances ``[D]``, sqrt(Var[z] / Var[∇ log π]), and ``fallback`` where the data say nothing.

    :param draws: moments of the draws; of a matrix of products the diagonal is used.
    :param gradients: moments of the gradients at these draws.
    :param fallback: variances ``[D]``.
    """
    return _balanced(_variances(draws), _variances(gradients), fallback)


def dense(draws: Moments, gradients: Moments, fallback: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return a covariance ``[D, D]``, the geometric mean of Cov[z] and Cov[∇ log π]⁻¹.

    Both are shrunk like Stan's, in coordinates in which the best diagonal is the identity.

    :param draws: moments of the draws, with a matrix of products.
    :param gradients: moments of the gradients at these draws, likewise.
    :param fallback: variances ``[D]`` of coordinates of which the data say nothing.
    :param mask: ``[D, D]`` of zeros and ones for a block dense result.
    """
    scale = torch.sqrt(diagonal(draws, gradients, fallback))
    outer = scale.unsqueeze(1) * scale
    of_draws, of_gradients = variance.covariance(draws) / outer, variance.covariance(gradients) * outer
    if mask is not None:
        of_draws, of_gradients = of_draws * mask, of_gradients * mask
    weight = draws.size / (draws.size + 5.0)
    ridge = 1e-3 * (1.0 - weight) * torch.eye(scale.shape[0], dtype=scale.dtype)
    estimate = _geometric_mean(weight * of_draws + ridge, weight * of_gradients + ridge) * outer
    return estimate if mask is None else estimate * mask


def low_rank(data: History, rank: int, fallback: Tensor) -> metric.LowRank:
    """Return the best diagonal, corrected along the ``rank`` most extreme directions.

    :param data: the draws and gradients of a window.
    :param rank: K; half of the directions are for the largest and half for the smallest eigenvalues.
    :param fallback: variances ``[D]`` of coordinates of which the data say nothing.
    """
    draws, gradients, size = history.deviations(data)
    divisor = (size - 1.0).clamp(min=1.0)
    scale = torch.sqrt(
        _balanced((draws * draws).sum(0) / divisor, (gradients * gradients).sum(0) / divisor, fallback)
    )
    draws, gradients = draws / scale, gradients * scale
    dimension = scale.shape[0]
    basis = _span(torch.cat([draws, gradients])) if dimension > 2 * draws.shape[0] else None
    if basis is not None:
        draws, gradients = draws @ basis, gradients @ basis
    ridge = _RIDGE * torch.eye(draws.shape[1], dtype=draws.dtype)
    values, vectors = torch.linalg.eigh(
        _geometric_mean(
            draws.transpose(0, 1) @ draws / divisor + ridge,
            gradients.transpose(0, 1) @ gradients / divisor + ridge,
        )
    )
    low, high = rank // 2, rank - rank // 2
    values = torch.cat([values[:low], values[values.shape[0] - high :]])
    vectors = torch.cat([vectors[:, :low], vectors[:, vectors.shape[1] - high :]], dim=1)
    if basis is not None:
        vectors = basis @ vectors
    extreme = (values > _CUTOFF) | (values < 1.0 / _CUTOFF)
    # NaN and negative rounding are not extreme, and are left to the diagonal as well.
    extreme = extreme & (values > _SMALLEST) & (values < _LARGEST)
    return metric.low_rank(
        scale,
        torch.where(extreme, vectors, torch.zeros_like(vectors)),
        torch.where(extreme, values, torch.ones_like(values)),
    )


def _variances(moments: Moments) -> Tensor:
    estimate = variance.covariance(moments)
    return estimate.diagonal() if estimate.dim() == 2 else estimate


def _balanced(of_draws: Tensor, of_gradients: Tensor, fallback: Tensor) -> Tensor:
    estimate = torch.sqrt(of_draws / of_gradients)
    known = (estimate > _SMALLEST) & (estimate < _LARGEST)
    return torch.where(known, estimate, fallback)


def _geometric_mean(a: Tensor, b: Tensor) -> Tensor:
    """Return the positive definite X with X b X = a, by X = L⁻ᵀ (Lᵀ a L)^(1/2) L⁻¹ where b = L Lᵀ."""
    factor, failed = torch.linalg.cholesky_ex(b)
    product = factor.transpose(0, 1) @ a @ factor
    # Without a factorisation the result is useless, but finite: NaN would stop the eigensolver.
    product = torch.where((failed == 0) & torch.isfinite(product).all(), product, torch.zeros_like(product))
    values, vectors = torch.linalg.eigh(product)
    # Q = L⁻ᵀ V Λ^(1/4), so that X = Q Qᵀ is symmetric to the last bit.
    roots = vectors * torch.sqrt(torch.sqrt(values.clamp(min=0.0)))
    half = torch.linalg.solve_triangular(factor.transpose(0, 1), roots, upper=True)
    half = torch.where(torch.isfinite(half), half, torch.zeros_like(half))
    return half @ half.transpose(0, 1)


def _span(rows: Tensor) -> Tensor:
    """Return orthonormal columns ``[D, R]`` that span the rows ``[R, D]``, zero where those depend."""
    values, vectors = torch.linalg.eigh(rows @ rows.transpose(0, 1))
    independent = values > 1e-10 * values.amax()
    inverse_roots = torch.rsqrt(values.clamp(min=_SMALLEST))
    inverse_roots = torch.where(independent, inverse_roots, torch.zeros_like(values))
    return rows.transpose(0, 1) @ (vectors * inverse_roots)
