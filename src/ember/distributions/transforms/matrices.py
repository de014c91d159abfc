"""Define transforms between vectors, triangular factors and symmetric matrices."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import CorrCholeskyTransform as _TorchCorrCholeskyTransform
from torch.distributions.transforms import Transform
from torch.nn.functional import logsigmoid, softplus

from .. import constraints
from ..shapes import broadcast_shape


def fill_lower(vector: Tensor, size: int, diagonal: int = 0) -> Tensor:
    """Lay a vector out, row by row, as the lower triangle of a square matrix; zeros elsewhere.

    :param diagonal: 0 with the diagonal, -1 without.
    """
    rows, columns = torch.tril_indices(size, size, diagonal, device=vector.device)
    # Every place of the matrix looks up its entry; places above the triangle look up an added zero.
    place = torch.full((size * size,), vector.shape[-1], dtype=torch.long, device=vector.device)
    place = place.scatter(0, rows * size + columns, torch.arange(len(rows), device=vector.device))
    padded = torch.nn.functional.pad(vector, (0, 1))
    return padded.index_select(-1, place).reshape((*vector.shape[:-1], size, size))


def read_lower(matrix: Tensor, diagonal: int = 0) -> Tensor:
    """Return the lower triangle of a square matrix, row by row, as a vector."""
    size = matrix.shape[-1]
    rows, columns = torch.tril_indices(size, size, diagonal, device=matrix.device)
    return matrix.flatten(-2).index_select(-1, rows * size + columns)


def _size_of_triangle(length: int, what: str) -> int:
    size = math.isqrt(2 * length)
    if size * (size + 1) // 2 != length:
        raise ValueError(f"{length} numbers do not fill {what}")
    return size


class _Same(Transform):
    """Compare equal to every instance of the same class."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    __hash__ = object.__hash__


class CorrCholeskyTransform(_TorchCorrCholeskyTransform):
    """A free vector of n(n - 1)/2 numbers to the Cholesky factor of a correlation matrix.

    Partial correlations are tanh of the numbers (Stan's reference manual, "Cholesky factors of
    correlation matrices"); all operations have shapes that do not depend on values.
    """

    def _call(self, x: Tensor) -> Tensor:
        size = _size_of_triangle(x.shape[-1], "the lower triangle of a matrix") + 1
        partial = fill_lower(torch.tanh(x), size, -1)
        # log(1 - tanh²) without cancellation.
        left = fill_lower(_log_one_minus_tanh_square(x), size, -1)
        remaining = (0.5 * (left.cumsum(-1) - left)).exp()
        identity = torch.eye(size, dtype=x.dtype, device=x.device)
        return (partial + identity) * remaining

    def _inverse(self, y: Tensor) -> Tensor:
        size = y.shape[-1]
        square = y.square().tril(-1)
        identity = torch.eye(size, dtype=y.dtype, device=y.device)
        # What is left of the row's unit length: summed from the diagonal, so that nothing cancels.
        total = square + y.square() * identity
        remaining = total.flip(-1).cumsum(-1).flip(-1)
        partial = y.tril(-1) / torch.where(remaining > 0, remaining, 1.0).sqrt()
        return torch.atanh(read_lower(partial, -1))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor, intermediates: Any = None) -> Tensor:
        size = y.shape[-1]
        left = fill_lower(_log_one_minus_tanh_square(x), size, -1)
        # Entry (i, j) has derivative (1 - t²) sqrt(product over k < j of 1 - t²): a weighted sum of logs.
        row = torch.arange(size, dtype=y.dtype, device=y.device).unsqueeze(-1)
        column = torch.arange(size, dtype=y.dtype, device=y.device)
        weight = 1.0 + 0.5 * (row - 1.0 - column).clamp(min=0.0)
        return (weight * left).sum((-1, -2))


def _log_one_minus_tanh_square(x: Tensor) -> Tensor:
    return 2.0 * (math.log(2.0) + logsigmoid(2.0 * x) - x)


class VectorToLowerCholeskyTransform(_Same):
    """A free vector of n(n + 1)/2 numbers to a lower triangular matrix with positive diagonal.

    :param positive: "exp" or "softplus", what maps the diagonal.
    """

    domain = constraints.real_vector
    codomain = constraints.lower_cholesky
    bijective = True

    def __init__(self, positive: str = "exp", cache_size: int = 0) -> None:
        if positive not in ("exp", "softplus"):
            raise ValueError(f"expected 'exp' or 'softplus', got {positive!r}")
        super().__init__(cache_size=cache_size)
        self.positive = positive

    def with_cache(self, cache_size: int = 1) -> VectorToLowerCholeskyTransform:
        return self if self._cache_size == cache_size else type(self)(self.positive, cache_size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VectorToLowerCholeskyTransform) and self.positive == other.positive

    __hash__ = object.__hash__

    def _call(self, x: Tensor) -> Tensor:
        matrix = fill_lower(x, _size_of_triangle(x.shape[-1], "a lower triangular matrix"))
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        diagonal = diagonal.exp() if self.positive == "exp" else softplus(diagonal)
        return matrix.tril(-1) + torch.diag_embed(diagonal)

    def _inverse(self, y: Tensor) -> Tensor:
        diagonal = y.diagonal(dim1=-2, dim2=-1)
        diagonal = diagonal.log() if self.positive == "exp" else _softplus_inverse(diagonal)
        return read_lower(y.tril(-1) + torch.diag_embed(diagonal))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        diagonal = y.diagonal(dim1=-2, dim2=-1)
        if self.positive == "exp":
            return diagonal.log().sum(-1)
        return logsigmoid(_softplus_inverse(diagonal)).sum(-1)

    def forward_shape(self, shape: Any) -> torch.Size:
        size = _size_of_triangle(shape[-1], "a lower triangular matrix")
        return torch.Size((*shape[:-1], size, size))

    def inverse_shape(self, shape: Any) -> torch.Size:
        return torch.Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))


def _softplus_inverse(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))


class VectorToUnitLowerCholeskyTransform(_Same):
    """A free vector of n(n - 1)/2 numbers to a lower triangular matrix with unit diagonal."""

    domain = constraints.real_vector
    codomain = constraints.unit_lower_cholesky
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        size = _size_of_triangle(x.shape[-1], "the lower triangle of a matrix") + 1
        return fill_lower(x, size, -1) + torch.eye(size, dtype=x.dtype, device=x.device)

    def _inverse(self, y: Tensor) -> Tensor:
        return read_lower(y, -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)

    def forward_shape(self, shape: Any) -> torch.Size:
        size = _size_of_triangle(shape[-1], "the lower triangle of a matrix") + 1
        return torch.Size((*shape[:-1], size, size))

    def inverse_shape(self, shape: Any) -> torch.Size:
        return torch.Size((*shape[:-2], shape[-1] * (shape[-1] - 1) // 2))


class SoftplusLowerCholeskyTransform(_Same):
    """A free square matrix to a lower triangular one with softplus diagonal; what is above is ignored."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.softplus_lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return x.tril(-1) + torch.diag_embed(softplus(x.diagonal(dim1=-2, dim2=-1)))

    def _inverse(self, y: Tensor) -> Tensor:
        return y.tril(-1) + torch.diag_embed(_softplus_inverse(y.diagonal(dim1=-2, dim2=-1)))


class UnitLowerCholeskyTransform(_Same):
    """A free square matrix to a lower triangular one with unit diagonal; all else is ignored."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.unit_lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return x.tril(-1) + torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class CholeskyTransform(_Same):
    """A positive definite matrix to its Cholesky factor."""

    domain = constraints.positive_definite
    codomain = constraints.lower_cholesky
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        return torch.linalg.cholesky(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return y @ y.mT

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        n = x.shape[-1]
        order = torch.arange(n, 0, -1, dtype=x.dtype, device=x.device)
        return -n * math.log(2.0) - (order * y.diagonal(dim1=-2, dim2=-1).log()).sum(-1)


class CorrMatrixCholeskyTransform(CholeskyTransform):
    """A correlation matrix to its Cholesky factor."""

    domain = constraints.corr_matrix  # type: ignore[assignment]
    codomain = constraints.corr_cholesky  # type: ignore[assignment]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        n = x.shape[-1]
        order = torch.arange(n - 1, -1, -1, dtype=x.dtype, device=x.device)
        return -(order * y.diagonal(dim1=-2, dim2=-1).log()).sum(-1)


class LowerCholeskyAffine(Transform):
    """x ↦ loc + scale_tril x for vectors x along the last dim.

    :param loc: real vector.
    :param scale_tril: lower triangular matrix with positive diagonal.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True
    event_dim = 1

    def __init__(self, loc: Tensor, scale_tril: Tensor, cache_size: int = 0) -> None:
        if loc.shape[-1] != scale_tril.shape[-1] or scale_tril.shape[-1] != scale_tril.shape[-2]:
            raise ValueError(
                f"LowerCholeskyAffine takes loc (..., d) and scale_tril (..., d, d), got {tuple(loc.shape)} "
                f"and {tuple(scale_tril.shape)}"
            )
        super().__init__(cache_size=cache_size)
        self.loc = loc
        self.scale_tril = scale_tril

    def with_cache(self, cache_size: int = 1) -> LowerCholeskyAffine:
        if self._cache_size == cache_size:
            return self
        return LowerCholeskyAffine(self.loc, self.scale_tril, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + (self.scale_tril @ x.unsqueeze(-1)).squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        difference = (y - self.loc).unsqueeze(-1)
        return torch.linalg.solve_triangular(self.scale_tril, difference, upper=False).squeeze(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        value = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return value.expand(broadcast_shape(value.shape, x.shape[:-1]))

    def forward_shape(self, shape: Any) -> torch.Size:
        batch = broadcast_shape(shape[:-1], self.loc.shape[:-1], self.scale_tril.shape[:-2])
        return torch.Size((*batch, shape[-1]))

    inverse_shape = forward_shape
