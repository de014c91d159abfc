"""Define volume-preserving linear transforms: permutation, cosine and Haar wavelet bases."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from .. import constraints

_LARGEST_MATRIX = 512


class Permute(Transform):
    """Reorder the entries along one dim.

    :param permutation: vector of the old place of each new entry.
    :param dim: a negative number; the dim to reorder.
    """

    bijective = True
    volume_preserving = True

    def __init__(self, permutation: Tensor, *, dim: int = -1, cache_size: int = 1) -> None:
        super().__init__(cache_size=cache_size)
        if dim >= 0:
            raise ValueError("'dim' keyword argument must be negative")
        self.permutation = permutation
        self.dim = dim

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> Any:
        return constraints.independent(constraints.real, -self.dim)

    codomain = domain

    @property
    def inv_permutation(self) -> Tensor:
        """Vector of the new place of each old entry."""
        return self.permutation.argsort()

    def with_cache(self, cache_size: int = 1) -> Permute:
        if self._cache_size == cache_size:
            return self
        return Permute(self.permutation, dim=self.dim, cache_size=cache_size)

    def _call(self, x: Tensor) -> Tensor:
        return x.index_select(self.dim, self.permutation)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.index_select(self.dim, self.inv_permutation)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros(x.shape[: x.dim() + self.dim], dtype=x.dtype, device=x.device)


class _AlongDim(Transform):
    """Apply a linear map of determinant ±1 along one dim, counted from the right."""

    bijective = True

    def __init__(self, dim: int, cache_size: int) -> None:
        if not isinstance(dim, int) or dim >= 0:
            raise ValueError(f"{type(self).__name__} takes a negative dim, got {dim!r}")
        self.dim = dim
        super().__init__(cache_size=cache_size)

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> Any:
        return constraints.independent(constraints.real, -self.dim)

    codomain = domain
    __hash__ = object.__hash__

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros(x.shape[: x.dim() + self.dim], dtype=x.dtype, device=x.device)


class DiscreteCosineTransform(_AlongDim):
    """The orthonormal cosine basis (DCT-II) along a dim, with high frequencies weighted.

    :param dim: a negative number; the dim to transform.
    :param smooth: power of the frequency that output entries are multiplied by: 0 for white noise, 1 for
        Brownian motion as what has white noise as image. The weights' geometric mean is one.
    """

    def __init__(self, dim: int = -1, smooth: float = 0.0, cache_size: int = 0) -> None:
        self.smooth = float(smooth)
        super().__init__(dim, cache_size)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and (self.dim, self.smooth) == (other.dim, other.smooth)

    __hash__ = object.__hash__

    def with_cache(self, cache_size: int = 1) -> DiscreteCosineTransform:
        return self if self._cache_size == cache_size else type(self)(self.dim, self.smooth, cache_size)

    def _weight(self, x: Tensor) -> Tensor:
        frequency = torch.arange(0.5, x.shape[-1], dtype=torch.float64).log()
        return ((frequency - frequency.mean()) * self.smooth).exp().to(x)

    def _call(self, x: Tensor) -> Tensor:
        x = x.movedim(self.dim, -1)
        n = x.shape[-1]
        y = x @ _cosines(n).to(x).T if n <= _LARGEST_MATRIX else _cosine_by_fft(x)
        return (y * self._weight(y) if self.smooth else y).movedim(-1, self.dim)

    def _inverse(self, y: Tensor) -> Tensor:
        y = y.movedim(self.dim, -1)
        n = y.shape[-1]
        y = y / self._weight(y) if self.smooth else y
        x = y @ _cosines(n).to(y) if n <= _LARGEST_MATRIX else _inverse_cosine_by_fft(y)
        return x.movedim(-1, self.dim)


@functools.lru_cache(maxsize=16)
def _cosines(n: int) -> Tensor:
    """Return the n × n orthonormal DCT-II matrix."""
    place = torch.arange(0.5, n, dtype=torch.float64)
    basis = (torch.arange(n, dtype=torch.float64).unsqueeze(-1) * place * (math.pi / n)).cos()
    basis = basis * math.sqrt(2.0 / n)
    return torch.cat([basis[:1] * math.sqrt(0.5), basis[1:]])


def _phase_and_scale(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    angle = torch.arange(n, dtype=torch.float64) * (math.pi / (2 * n))
    scale = torch.full((n,), math.sqrt(2.0 / n), dtype=torch.float64)
    scale[0] = math.sqrt(1.0 / n)
    kind = torch.complex128 if like.dtype == torch.float64 else torch.complex64
    return torch.polar(torch.ones_like(angle), angle).to(device=like.device, dtype=kind), scale.to(like)


def _cosine_by_fft(x: Tensor) -> Tensor:
    """Compute the DCT-II by one FFT of the same length (Makhoul 1980)."""
    phase, scale = _phase_and_scale(x.shape[-1], x)
    shuffled = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    return (torch.fft.fft(shuffled) * phase.conj()).real * scale


def _inverse_cosine_by_fft(y: Tensor) -> Tensor:
    n = y.shape[-1]
    phase, scale = _phase_and_scale(n, y)
    y = y / scale
    mirrored = torch.cat([torch.zeros_like(y[..., :1]), y[..., 1:].flip(-1)], -1)
    shuffled = torch.fft.ifft(torch.complex(y, -mirrored) * phase).real
    even = (n + 1) // 2
    place = torch.empty(n, dtype=torch.long, device=y.device)
    place[::2] = torch.arange(even, device=y.device)
    place[1::2] = torch.arange(n - 1, even - 1, -1, device=y.device)
    return shuffled.index_select(-1, place)


class HaarTransform(_AlongDim):
    """The orthonormal Haar wavelet basis along a dim, of any length; coarse coefficients come first.

    :param dim: a negative number; the dim to transform.
    :param flip: reverse the dim first.
    """

    def __init__(self, dim: int = -1, flip: bool = False, cache_size: int = 0) -> None:
        self.flip = flip
        super().__init__(dim, cache_size)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and (self.dim, self.flip) == (other.dim, other.flip)

    __hash__ = object.__hash__

    def with_cache(self, cache_size: int = 1) -> HaarTransform:
        return self if self._cache_size == cache_size else type(self)(self.dim, self.flip, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        x = x.movedim(self.dim, -1)
        return _haar(x.flip(-1) if self.flip else x).movedim(-1, self.dim)

    def _inverse(self, y: Tensor) -> Tensor:
        x = _inverse_haar(y.movedim(self.dim, -1))
        return (x.flip(-1) if self.flip else x).movedim(-1, self.dim)


def _haar(x: Tensor) -> Tensor:
    details = []
    while x.shape[-1] > 1:
        even = x.shape[-1] // 2 * 2
        left, right = x[..., 0:even:2], x[..., 1:even:2]
        details.append(torch.cat([(left - right) * math.sqrt(0.5), x[..., even:]], -1))
        x = (left + right) * math.sqrt(0.5)
    return torch.cat([x, *reversed(details)], -1)


def _inverse_haar(y: Tensor) -> Tensor:
    n = y.shape[-1]
    sizes = []
    while n > 1:
        sizes.append(n)
        n //= 2
    x, used = y[..., :1], 1
    for size in reversed(sizes):
        half = size // 2
        detail, rest = y[..., used : used + half], y[..., used + half : size]
        pairs = torch.stack([x + detail, x - detail], -1) * math.sqrt(0.5)
        x, used = torch.cat([pairs.flatten(-2), rest], -1), size
    return x
