"""Invert small matrices."""

from __future__ import annotations

import torch
from torch import Tensor


def rinverse(M: Tensor, sym: bool = False) -> Tensor:
    """Return the inverse of square matrices.

    :param M: ``batch + (n, n)``.
    :param sym: whether the matrices are symmetric and positive definite: then the result is symmetric, too.
    """
    if not sym:
        return torch.linalg.inv(M)
    factor, failed = torch.linalg.cholesky_ex(M)
    inverse = torch.cholesky_inverse(factor)
    return torch.where((failed > 0)[..., None, None], torch.linalg.inv(M), inverse)
