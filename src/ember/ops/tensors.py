"""Offer operations on tensors: blocks, convolution, periodic sequences, transforms, safe factors."""

from __future__ import annotations

import torch
from torch import Tensor

from ember.distributions.multivariate import cholesky_of_inverse
from ember.errors import message
from ember.ops.periodic import periodic_cumsum, periodic_features, periodic_repeat
from ember.ops.wavelets import dct, haar_transform, idct, inverse_haar_transform

__all__ = [
    "as_complex",
    "block_diag_embed",
    "block_diagonal",
    "cholesky_solve",
    "convolve",
    "dct",
    "haar_transform",
    "idct",
    "inverse_haar_transform",
    "matmul",
    "matvecmul",
    "next_fast_len",
    "periodic_cumsum",
    "periodic_features",
    "periodic_repeat",
    "precision_to_scale_tril",
    "repeated_matmul",
    "safe_cholesky",
    "safe_normalize",
    "triangular_solve",
]

matmul = torch.matmul


def as_complex(x: Tensor) -> Tensor:
    """Return complex numbers from a last dim of size 2."""
    return torch.view_as_complex(x.contiguous())


def block_diag_embed(mat: Tensor) -> Tensor:
    """Put matrices along the diagonal of one: ``(..., B, m, n)`` becomes ``(..., B m, B n)``."""
    blocks, rows, columns = mat.shape[-3:]
    identity = torch.eye(blocks, dtype=mat.dtype, device=mat.device)[..., :, None, :, None]
    return (identity * mat.unsqueeze(-2)).reshape((*mat.shape[:-3], blocks * rows, blocks * columns))


def block_diagonal(mat: Tensor, block_size: int) -> Tensor:
    """Take the blocks out of the diagonal: ``(..., B m, B n)`` becomes ``(..., B, m, n)``.

    :raises ValueError: if the matrix does not consist of blocks of that size.
    """
    rows, columns = mat.shape[-2:]
    count = rows // block_size
    if rows % block_size or columns % count:
        raise ValueError(
            message(
                f"The matrix does not consist of blocks of {block_size} rows.",
                expected=f"(..., B * {block_size}, B * n)",
                actual=tuple(mat.shape),
            )
        )
    blocks = mat.reshape((*mat.shape[:-2], count, block_size, count, columns // count))
    return blocks.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def next_fast_len(size: int) -> int:
    """Return the smallest number, from ``size`` on, of elements that a Fourier transform takes fast."""
    from scipy.fft import next_fast_len as found  # takes as long to import as the rest of ember

    return int(found(size))


def convolve(signal: Tensor, kernel: Tensor, mode: str = "full") -> Tensor:
    """Convolve along the last dim, with batch dims broadcast, by the fast Fourier transform.

    :param mode: "full", "valid" (only where both overlap fully) or "same" (the size of the signal).
    :raises ValueError: for another mode.
    """
    m, n = signal.shape[-1], kernel.shape[-1]
    sizes = {"full": m + n - 1, "valid": max(m, n) - min(m, n) + 1, "same": max(m, n)}
    if mode not in sizes:
        raise ValueError(message("Unknown mode of convolve.", expected=", ".join(sizes), actual=repr(mode)))
    size = next_fast_len(m + n - 1)
    product = torch.fft.rfft(signal, n=size) * torch.fft.rfft(kernel, n=size)
    result = torch.fft.irfft(product, n=size)[..., : m + n - 1]
    start = (result.shape[-1] - sizes[mode]) // 2
    return result[..., start : start + sizes[mode]]


def repeated_matmul(M: Tensor, n: int) -> Tensor:
    """Return the powers M, M², …, Mⁿ along a new leading dim, in O(log n) products.

    :raises ValueError: if ``n`` is not positive.
    """
    if n < 1:
        raise ValueError(f"repeated_matmul takes a positive number of powers, got {n}")
    powers = M.unsqueeze(0)
    while powers.shape[0] < n:
        powers = torch.cat([powers, powers @ powers[-1]])
    return powers[:n]


def safe_cholesky(x: Tensor) -> Tensor:
    """Return the Cholesky factor, after adding a little to the diagonal where rounding asks for it."""
    if x.shape[-1] == 1:
        return x.clamp(min=torch.finfo(x.dtype).tiny).sqrt()
    size = x.detach().diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    jitter = (4.0 * x.shape[-1] * torch.finfo(x.dtype).eps * size).expand(x.shape[:-1])
    return torch.linalg.cholesky(x + torch.diag_embed(jitter))


def cholesky_solve(x: Tensor, y: Tensor) -> Tensor:
    """Return (y yᵀ)⁻¹ x for a lower triangular y."""
    return torch.cholesky_solve(x, y)


def matvecmul(x: Tensor, y: Tensor) -> Tensor:
    """Multiply matrices ``x`` with vectors ``y``, batch dims broadcast."""
    return (x @ y.unsqueeze(-1)).squeeze(-1)


def triangular_solve(x: Tensor, y: Tensor, upper: bool = False, transpose: bool = False) -> Tensor:
    """Return y⁻¹ x for a triangular y, or its transpose's inverse times x."""
    return torch.linalg.solve_triangular(y.mT if transpose else y, x, upper=upper != transpose)


def precision_to_scale_tril(P: Tensor) -> Tensor:
    """Return the Cholesky factor of the inverse of a positive definite matrix."""
    return cholesky_of_inverse(P)


def safe_normalize(x: Tensor, *, p: float = 2) -> Tensor:
    """Divide vectors along the last dim by their p-norm; a zero vector becomes the first unit vector."""
    norm = torch.linalg.vector_norm(x, ord=p, dim=-1, keepdim=True)
    zero = norm == 0
    first = torch.zeros_like(x)
    first[..., 0] = 1.0
    return torch.where(zero, first, x / torch.where(zero, 1.0, norm))
