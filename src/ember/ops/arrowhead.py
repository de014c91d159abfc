"""Factorise symmetric matrices that are diagonal beside some leading rows and columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SymmArrowhead(NamedTuple):
    """A symmetric matrix, by its leading rows ``(h, n)`` and the rest of its diagonal ``(n - h,)``."""

    top: Tensor
    bottom_diag: Tensor


class TriuArrowhead(NamedTuple):
    """An upper triangular matrix, by leading rows ``(h, n)`` and the rest of its diagonal ``(n - h,)``."""

    top: Tensor
    bottom_diag: Tensor


def sqrt(x: SymmArrowhead) -> TriuArrowhead:
    """Return the upper triangular U with x = U Uᵀ, of a positive definite matrix.

    :raises torch.linalg.LinAlgError: if it is not positive definite.
    """
    head = x.top.shape[0]
    root = x.bottom_diag.sqrt()
    side = x.top[:, head:] / root
    rest = x.top[:, :head] - side @ side.T
    corner = torch.linalg.cholesky(rest.flip(-2, -1)).flip(-2, -1)
    return TriuArrowhead(torch.cat([corner, side], -1), root)


def triu_inverse(x: TriuArrowhead) -> TriuArrowhead:
    """Return the inverse, of the same form."""
    head = x.top.shape[0]
    identity = torch.eye(head, dtype=x.top.dtype, device=x.top.device)
    corner = torch.linalg.solve_triangular(x.top[:, :head], identity, upper=True)
    inverse = x.bottom_diag.reciprocal()
    return TriuArrowhead(torch.cat([corner, -(corner @ x.top[:, head:]) * inverse], -1), inverse)


def triu_matvecmul(x: TriuArrowhead, y: Tensor, transpose: bool = False) -> Tensor:
    """Multiply the matrix, or its transpose, with a vector."""
    head = x.top.shape[0]
    if transpose:
        product = x.top.T @ y[:head]
        return torch.cat([product[:head], product[head:] + x.bottom_diag * y[head:]])
    return torch.cat([x.top @ y, x.bottom_diag * y[head:]])


def triu_gram(x: TriuArrowhead) -> Tensor:
    """Return xᵀ x as a full matrix."""
    head = x.top.shape[0]
    padded = torch.nn.functional.pad(x.bottom_diag.square(), (head, 0))
    return x.top.T @ x.top + torch.diag(padded)
