"""Represent inverse mass matrices: draw momenta from them and turn momenta into velocities.

With inverse mass matrix Σ = M⁻¹ momenta are r ~ N(0, Σ⁻¹), velocities are Σ r and the kinetic energy is
r·Σr / 2 (Neal 2011, *MCMC using Hamiltonian dynamics*, section 2). Σ should resemble the posterior's
covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Metric(Protocol):
    """What integrators need of an inverse mass matrix over D coordinates."""

    def momentum(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise ``[D]`` into a momentum r ~ N(0, Σ⁻¹), ``[D]``."""

    def velocity(self, momentum: Tensor) -> Tensor:
        """Return Σ r for a momentum r, ``[D]``."""


class Diagonal(NamedTuple):
    """Σ = diag(scale²)."""

    variance: Tensor  # [D]
    scale: Tensor  # [D], square root of the variance

    def momentum(self, noise: Tensor) -> Tensor:
        """Divide by the scale."""
        return noise / self.scale

    def velocity(self, momentum: Tensor) -> Tensor:
        """Multiply by the variance."""
        return self.variance * momentum


class Dense(NamedTuple):
    """Σ = L Lᵀ in full, or block by block with zeros between the blocks."""

    covariance: Tensor  # [D, D]
    factor: Tensor  # [D, D], L, lower triangular

    def momentum(self, noise: Tensor) -> Tensor:
        """Solve Lᵀ r = noise."""
        columns = noise.unsqueeze(-1)
        return torch.linalg.solve_triangular(self.factor.transpose(0, 1), columns, upper=True).squeeze(-1)

    def velocity(self, momentum: Tensor) -> Tensor:
        """Multiply by the covariance."""
        return torch.mv(self.covariance, momentum)


class LowRank(NamedTuple):
    """Σ = S (I + U (Λ − I) Uᵀ) S with S = diag(scale), orthonormal or zero columns of U, Λ = diag(values).

    The form of Seyboldt, Carlson & Carpenter (arXiv 2603.18845): K directions beside a diagonal.
    """

    scale: Tensor  # [D]
    vectors: Tensor  # [D, K], U
    values: Tensor  # [K], diagonal of Λ

    def momentum(self, noise: Tensor) -> Tensor:
        """Apply S⁻¹ (I + U (Λ^(-1/2) − I) Uᵀ)."""
        inner = (torch.rsqrt(self.values) - 1.0) * torch.mv(self.vectors.transpose(0, 1), noise)
        return (noise + torch.mv(self.vectors, inner)) / self.scale

    def velocity(self, momentum: Tensor) -> Tensor:
        """Apply S (I + U (Λ − I) Uᵀ) S."""
        scaled = self.scale * momentum
        inner = (self.values - 1.0) * torch.mv(self.vectors.transpose(0, 1), scaled)
        return self.scale * (scaled + torch.mv(self.vectors, inner))

    def matrix(self) -> Tensor:
        """Return Σ in full, ``[D, D]``."""
        inner = (self.vectors * (self.values - 1.0)) @ self.vectors.transpose(0, 1)
        return self.scale.unsqueeze(-1) * (torch.eye(inner.shape[0], dtype=inner.dtype) + inner) * self.scale


def diagonal(variance: Tensor) -> Diagonal:
    """Make a diagonal metric from positive variances, shape ``[D]``."""
    return Diagonal(variance, torch.sqrt(variance))


def dense(covariance: Tensor, fallback: Dense | None = None) -> Dense:
    """Make a dense metric from a symmetric positive definite matrix, shape ``[D, D]``.

    :param covariance: Σ.
    :param fallback: returned where the matrix turns out not to be positive definite.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if fallback is None:
        return Dense(covariance, factor)
    usable = (failed == 0) & torch.isfinite(factor).all()
    return Dense(
        torch.where(usable, covariance, fallback.covariance), torch.where(usable, factor, fallback.factor)
    )


def low_rank(scale: Tensor, vectors: Tensor, values: Tensor) -> LowRank:
    """Make a low-rank-plus-diagonal metric from scales ``[D]``, directions ``[D, K]``, values ``[K]``."""
    return LowRank(scale, vectors, values)


def kinetic_energy(momentum: Tensor, velocity: Tensor) -> Tensor:
    """Return r·Σr / 2 from r and Σr."""
    return 0.5 * torch.dot(momentum, velocity)


def block_mask(dimension: int, blocks: Sequence[Sequence[int]]) -> Tensor:
    """Mark the entries of a block dense matrix: ones on the diagonal and within each group of indices.

    :param dimension: D.
    :param blocks: groups of coordinates, each group dense, zeros between groups.
    :returns: ``[D, D]`` of zeros and ones.
    :raises ValueError: for an index outside 0 … D−1 or one that stands in two groups.
    """
    flat = [index for block in blocks for index in block]
    if len(set(flat)) != len(flat) or any(not 0 <= index < dimension for index in flat):
        raise ValueError(f"blocks must be disjoint groups of indices from 0 to {dimension - 1}, got {blocks}")
    labels = list(range(dimension))
    for block in blocks:
        for index in block:
            labels[index] = block[0]
    group = torch.tensor(labels)
    return (group.unsqueeze(1) == group).to(torch.float64)
