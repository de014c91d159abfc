"""Hold the density of y = x matrix + noise, with independent noise, without a joint precision matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import message
from .batches import Batched
from .gaussian import Gaussian
from .quadratic_forms import multiply_rows


class AffineNormal(Batched):
    """The conditional density of y given x, Normal(x matrix + loc, scale), as a function of (x, y).

    Cheaper than :class:`Gaussian` where y has many entries.

    :param matrix: ``batch_shape + (x_dim, y_dim)``.
    :param loc: ``batch_shape + (y_dim,)``.
    :param scale: positive, ``batch_shape + (y_dim,)``.
    """

    fields = {"matrix": 2, "loc": 1, "scale": 1}  # noqa: RUF012

    def __init__(self, matrix: Tensor, loc: Tensor, scale: Tensor) -> None:
        if matrix.dim() < 2 or not matrix.shape[-1:] == loc.shape[-1:] == scale.shape[-1:]:
            raise ValueError(
                message(
                    "AffineNormal takes a matrix and vectors of its number of columns.",
                    expected="matrix (..., x_dim, y_dim), loc and scale (..., y_dim)",
                    actual=f"{tuple(matrix.shape)}, {tuple(loc.shape)}, {tuple(scale.shape)}",
                )
            )
        self.matrix = matrix
        self.loc = loc
        self.scale = scale

    def dim(self) -> int:
        """Return the number of variables x and y together."""
        return sum(self.matrix.shape[-2:])

    def condition(self, value: Tensor) -> Gaussian | AffineNormal:
        """Fix y, or its rightmost part, to ``value``: a Gaussian over x (and the rest of y)."""
        _x_dim, y_dim = self.matrix.shape[-2:]
        if value.shape[-1] != y_dim:
            return self.to_gaussian().condition(value)
        whitened_matrix = self.matrix / self.scale.unsqueeze(-2)
        whitened = (value - self.loc) / self.scale
        log_normalizer = (
            -0.5 * whitened.square().sum(-1)
            - self.scale.log().sum(-1)
            - 0.5 * y_dim * math.log(2.0 * math.pi)
        )
        precision = whitened_matrix @ whitened_matrix.mT
        return Gaussian(log_normalizer, multiply_rows(whitened, whitened_matrix.mT), precision)

    def left_condition(self, value: Tensor) -> Gaussian | AffineNormal:
        """Fix x, or its leftmost part, to ``value``: a density of y (and the rest of x)."""
        size = value.shape[-1]
        if size > self.matrix.shape[-2]:
            return self.to_gaussian().left_condition(value)
        loc = self.loc + multiply_rows(value, self.matrix[..., :size, :])
        return AffineNormal(self.matrix[..., size:, :], loc, self.scale)

    def rsample(self, sample_shape: Sequence[int] = (), noise: Tensor | None = None) -> Tensor:
        """Draw y, with gradients to the parameters; there must be no x left.

        :raises ValueError: if x has not been fixed.
        """
        if self.matrix.shape[-2] > 0:
            raise ValueError(
                message(
                    "AffineNormal can be drawn from only when x is known.",
                    expected="a matrix without rows",
                    actual=f"a matrix of shape {tuple(self.matrix.shape)}",
                    fix="call .left_condition(x) first",
                )
            )
        shape = (*sample_shape, *self.batch_shape, self.loc.shape[-1])
        if noise is None:
            noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).normal_()
        return self.loc + noise * self.scale

    def to_gaussian(self) -> Gaussian:
        """Return the same density in information form over (x, y)."""
        _x_dim, y_dim = self.matrix.shape[-2:]
        identity = torch.eye(y_dim, dtype=self.loc.dtype, device=self.loc.device)
        identity = identity.expand(self.matrix.shape[:-2] + identity.shape)
        # The whitened residual is linear in (x, y): -x matrix / scale + y / scale - loc / scale.
        linear = torch.cat([-self.matrix, identity], -2) / self.scale.unsqueeze(-2)
        offset = self.loc / self.scale
        log_normalizer = (
            -0.5 * offset.square().sum(-1) - self.scale.log().sum(-1) - 0.5 * y_dim * math.log(2.0 * math.pi)
        )
        return Gaussian(log_normalizer, multiply_rows(offset, linear.mT), linear @ linear.mT)

    def event_permute(self, perm: Tensor) -> Gaussian:
        """Reorder the variables (x, y) by the index tensor ``perm``."""
        return self.to_gaussian().event_permute(perm)

    def __add__(self, other: Gaussian | AffineNormal | Tensor | float) -> Gaussian:
        """Multiply with a density over (x, y), or add a number to the log density."""
        return self.to_gaussian() + (other.to_gaussian() if isinstance(other, AffineNormal) else other)

    def marginalize(self, left: int = 0, right: int = 0) -> Gaussian:
        """Integrate out variables; y integrates to one, so that the result is flat in x."""
        x_dim, y_dim = self.matrix.shape[-2:]
        if left == 0 and right == y_dim:
            zeros = self.loc.new_zeros(())
            return Gaussian(zeros, zeros.expand(x_dim), zeros.expand(x_dim, x_dim)).expand(self.batch_shape)
        return self.to_gaussian().marginalize(left, right)
