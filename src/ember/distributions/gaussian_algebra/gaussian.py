"""Hold Gaussian densities in information form, which may be flat in some directions, and combine them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import message
from ..shapes import broadcast_shape
from .batches import Batched
from .quadratic_forms import (
    Elimination,
    block_diagonal,
    fix,
    integrate,
    join_vectors,
    merge_forms,
    multiply_rows,
    solve_rows,
)


class Gaussian(Batched):
    """The density exp(log_normalizer + xᵀ info_vec - ½ xᵀ precision x), not normalised.

    The precision may be singular, as long as what is integrated out has a positive definite block. Batch
    dims of the parameters need only broadcast.

    :param log_normalizer: ``batch_shape``.
    :param info_vec: precision times mean, ``batch_shape + (dim,)``.
    :param precision: symmetric, ``batch_shape + (dim, dim)``.
    """

    fields = {"log_normalizer": 0, "info_vec": 1, "precision": 2}  # noqa: RUF012

    def __init__(self, log_normalizer: Tensor, info_vec: Tensor, precision: Tensor) -> None:
        size = info_vec.shape[-1] if info_vec.dim() else None
        if size is None or precision.shape[-2:] != (size, size):
            raise ValueError(
                message(
                    "A Gaussian takes a vector and a square matrix of the same size.",
                    expected="info_vec of shape (..., n) and precision of shape (..., n, n)",
                    actual=f"info_vec {tuple(info_vec.shape)} and precision {tuple(precision.shape)}",
                )
            )
        self.log_normalizer = log_normalizer
        self.info_vec = info_vec
        self.precision = precision

    def dim(self) -> int:
        """Return the number of variables."""
        return self.info_vec.shape[-1]

    def event_pad(self, left: int = 0, right: int = 0) -> Gaussian:
        """Add variables on the left and right in whose directions the density is flat."""
        pad = torch.nn.functional.pad
        return Gaussian(
            self.log_normalizer,
            pad(self.info_vec, (left, right)),
            pad(self.precision, (left, right, left, right)),
        )

    def event_permute(self, perm: Tensor) -> Gaussian:
        """Reorder the variables by the index tensor ``perm``."""
        precision = self.precision[..., perm][..., perm, :]
        return Gaussian(self.log_normalizer, self.info_vec[..., perm], precision)

    def __add__(self, other: Gaussian | Tensor | float) -> Gaussian:
        """Multiply densities over the same variables, or add a number to the log density."""
        if isinstance(other, Gaussian):
            return Gaussian(
                self.log_normalizer + other.log_normalizer,
                self.info_vec + other.info_vec,
                self.precision + other.precision,
            )
        if isinstance(other, Tensor | float | int):
            return Gaussian(self.log_normalizer + other, self.info_vec, self.precision)
        return NotImplemented

    def __sub__(self, other: Gaussian | Tensor | float) -> Gaussian:
        """Divide by a density over the same variables, or subtract a number from the log density."""
        if isinstance(other, Gaussian):
            return Gaussian(
                self.log_normalizer - other.log_normalizer,
                self.info_vec - other.info_vec,
                self.precision - other.precision,
            )
        if isinstance(other, Tensor | float | int):
            return Gaussian(self.log_normalizer - other, self.info_vec, self.precision)
        return NotImplemented

    def log_density(self, value: Tensor) -> Tensor:
        """Return the logarithm of the density, which need not integrate to one."""
        if value.shape[-1:] != self.info_vec.shape[-1:]:
            raise ValueError(
                f"expected a value of {self.dim()} variables along the last dim, got {tuple(value.shape)}"
            )
        along = self.info_vec - 0.5 * multiply_rows(value, self.precision)
        return (value * along).sum(-1) + self.log_normalizer

    def rsample(self, sample_shape: Sequence[int] = (), noise: Tensor | None = None) -> Tensor:
        """Draw from the normalised density, with gradients to the parameters.

        :param noise: standard normal numbers of shape ``sample_shape + batch_shape + (dim,)`` to transform.
        """
        factor = torch.linalg.cholesky(self.precision)
        if noise is None:
            shape = (*sample_shape, *self.batch_shape, self.dim())
            noise = torch.empty(shape, dtype=factor.dtype, device=factor.device).normal_()
        whitened = (solve_rows(factor, self.info_vec) + noise).unsqueeze(-1)
        return torch.linalg.solve_triangular(factor.mT, whitened, upper=True).squeeze(-1)

    def condition(self, value: Tensor) -> Gaussian:
        """Fix the rightmost variables to ``value``; the density of the others remains, as a slice."""
        info_vec, precision, constant = fix(self.info_vec, self.precision, value, right=True)
        return Gaussian(self.log_normalizer + constant, info_vec, precision)

    def left_condition(self, value: Tensor) -> Gaussian:
        """Fix the leftmost variables to ``value``."""
        info_vec, precision, constant = fix(self.info_vec, self.precision, value, right=False)
        return Gaussian(self.log_normalizer + constant, info_vec, precision)

    def marginalize(self, left: int = 0, right: int = 0) -> Gaussian:
        """Integrate out the ``left`` leftmost and ``right`` rightmost variables."""
        if right:
            split = self.dim() - right
            return self._integrate(slice(None, split), slice(split, None)).marginalize(left)
        return self._integrate(slice(left, None), slice(None, left)) if left else self

    def _integrate(self, kept: slice, out: slice) -> Gaussian:
        info_vec, precision, parts = integrate(self.info_vec, self.precision, kept, out)
        return Gaussian(self.log_normalizer + parts.log_volume() + parts.energy(), info_vec, precision)

    def event_logsumexp(self) -> Tensor:
        """Return the logarithm of the integral over all variables, of the batch shape."""
        return self.marginalize(left=self.dim()).log_normalizer


def gaussian_tensordot(x: Gaussian, y: Gaussian, dims: int = 0) -> Gaussian:
    """Multiply x(a, b) with y(b, c) and integrate over b: a density over (a, c).

    :param dims: number of variables b: the rightmost of ``x`` and the leftmost of ``y``.
    """
    if dims:
        return merge(x, y, dims)[0]
    return Gaussian(
        x.log_normalizer + y.log_normalizer,
        join_vectors(x.info_vec, y.info_vec),
        block_diagonal(x.precision, y.precision),
    )


def merge(x: Gaussian, y: Gaussian, dims: int) -> tuple[Gaussian, Elimination]:
    """Do what :func:`gaussian_tensordot` does, and also return what tells of b given (a, c)."""
    info_vec, precision, parts = merge_forms((x.info_vec, x.precision), (y.info_vec, y.precision), dims)
    constant = x.log_normalizer + y.log_normalizer + parts.log_volume() + parts.energy()
    return Gaussian(constant, info_vec, precision), parts


def broadcast_batch(*parts: Batched) -> torch.Size:
    """Return the batch shape that densities have in common."""
    return broadcast_shape(*(part.batch_shape for part in parts))
