"""Fix and integrate out variables of quadratic forms; shared matrices are factorised once.

A form over x is xᵀ i - ½ xᵀ P x, an exponent. Vectors lie along the last dim; dims to the left of a matrix
broadcast, and where the one beside it has size 1 (one matrix for all times), rows are multiplied at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..multivariate import log_determinant, whiten


class Elimination(NamedTuple):
    """The parts of a form from which variables b were integrated out, others k kept.

    With P_bb = L Lᵀ, given k the variables b have mean L⁻ᵀ (whitened - cross k) and precision P_bb.
    """

    factor: Tensor  # L, batch + (b, b)
    cross: Tensor  # L⁻¹ P_bk, batch + (b, k)
    whitened: Tensor  # L⁻¹ i_b, batch + (b,)

    def log_volume(self) -> Tensor:
        """Return log ∫ exp(-½ bᵀ P_bb b) db, of the batch shape of the matrix."""
        return 0.5 * self.factor.shape[-1] * math.log(2.0 * math.pi) - log_determinant(self.factor)

    def energy(self) -> Tensor:
        """Return ½ i_bᵀ P_bb⁻¹ i_b, what the integral adds to the exponent."""
        return 0.5 * self.whitened.square().sum(-1)

    def info_vec(self) -> Tensor:
        """Return P_kb P_bb⁻¹ i_b, to be taken from i_k."""
        return multiply_rows(self.whitened, self.cross)

    def precision(self) -> Tensor:
        """Return P_kb P_bb⁻¹ P_bk, to be taken from P_kk."""
        return self.cross.mT @ self.cross


def eliminate(precision: Tensor, cross: Tensor, info_vec: Tensor) -> Elimination:
    """Prepare the integral over b.

    :param precision: P_bb, positive definite.
    :param cross: P_bk.
    :param info_vec: i_b.
    """
    factor = torch.linalg.cholesky(precision)
    crossed = torch.linalg.solve_triangular(factor, cross, upper=False)
    return Elimination(factor, crossed, solve_rows(factor, info_vec))


def integrate(
    info_vec: Tensor, precision: Tensor, kept: slice, out: slice
) -> tuple[Tensor, Tensor, Elimination]:
    """Return i and P of what remains after the variables ``out`` are integrated out."""
    parts = eliminate(precision[..., out, out], precision[..., out, kept], info_vec[..., out])
    return info_vec[..., kept] - parts.info_vec(), precision[..., kept, kept] - parts.precision(), parts


def fix(info_vec: Tensor, precision: Tensor, value: Tensor, right: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Fix the rightmost (or leftmost) variables; return i and P of the others, and a number to be added."""
    split = precision.shape[-1] - value.shape[-1] if right else value.shape[-1]
    free, fixed = slice(None, split), slice(split, None)
    if not right:
        free, fixed = fixed, free
    along = info_vec[..., fixed] - 0.5 * multiply_rows(value, precision[..., fixed, fixed])
    rest = info_vec[..., free] - multiply_rows(value, precision[..., fixed, free])
    return rest, precision[..., free, free], (value * along).sum(-1)


def merge_forms(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], size: int
) -> tuple[Tensor, Tensor, Elimination]:
    """Add forms (i, P) over (a, b) and (b, c), and integrate out the ``size`` variables b.

    :returns: i and P over (a, c), and what tells of b given these.
    """
    (x_info, x_precision), (y_info, y_precision) = first, second
    a, b = slice(None, x_info.shape[-1] - size), slice(x_info.shape[-1] - size, None)
    left, c = slice(None, size), slice(size, None)
    parts = eliminate(
        x_precision[..., b, b] + y_precision[..., left, left],
        join_columns(x_precision[..., b, a], y_precision[..., left, c]),
        x_info[..., b] + y_info[..., left],
    )
    info_vec = join_vectors(x_info[..., a], y_info[..., c]) - parts.info_vec()
    precision = block_diagonal(x_precision[..., a, a], y_precision[..., c, c]) - parts.precision()
    return info_vec, precision, parts


def solve_rows(factor: Tensor, rows: Tensor) -> Tensor:
    """Return L⁻¹ x for vectors x along the last dim and lower triangular matrices L."""
    if factor.dim() == 2:
        return whiten(factor, rows)
    if factor.shape[-3] == 1 and rows.dim() > 1:
        factor = factor.squeeze(-3)
        if factor.dim() == 2:
            return whiten(factor, rows)
        return torch.linalg.solve_triangular(factor, rows.mT, upper=False).mT
    return torch.linalg.solve_triangular(factor, rows.unsqueeze(-1), upper=False).squeeze(-1)


def multiply_rows(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return xᵀ M for vectors x along the last dim."""
    if matrix.dim() == 2:
        return rows @ matrix
    if matrix.shape[-3] == 1 and rows.dim() > 1:
        return rows @ matrix.squeeze(-3)
    return (rows.unsqueeze(-2) @ matrix).squeeze(-2)


def block_diagonal(first: Tensor, second: Tensor) -> Tensor:
    """Return the matrix with the blocks ``first`` and ``second``, batch dims broadcast."""
    a, b = first.shape[-1], second.shape[-1]
    pad = torch.nn.functional.pad
    return pad(first, (0, b, 0, b)) + pad(second, (a, 0, a, 0))


def join_vectors(first: Tensor, second: Tensor) -> Tensor:
    """Concatenate vectors along the last dim, batch dims broadcast."""
    if first.shape[:-1] != second.shape[:-1]:
        batch = torch.broadcast_shapes(first.shape[:-1], second.shape[:-1])
        first, second = first.expand(batch + first.shape[-1:]), second.expand(batch + second.shape[-1:])
    return torch.cat([first, second], -1)


def join_columns(first: Tensor, second: Tensor) -> Tensor:
    """Concatenate matrices along the last dim, batch dims broadcast."""
    if first.shape[:-2] != second.shape[:-2]:
        batch = torch.broadcast_shapes(first.shape[:-2], second.shape[:-2])
        first, second = first.expand(batch + first.shape[-2:]), second.expand(batch + second.shape[-2:])
    return torch.cat([first, second], -1)
