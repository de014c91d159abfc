"""Transform sequences by cosines and Haar wavelets, orthogonally."""

from __future__ import annotations

from torch import Tensor

from ember.distributions.transforms import DiscreteCosineTransform, HaarTransform


def dct(x: Tensor, dim: int = -1) -> Tensor:
    """Return the orthonormal discrete cosine transform of type II along a negative ``dim``."""
    return DiscreteCosineTransform(dim)(x)


def idct(x: Tensor, dim: int = -1) -> Tensor:
    """Return the inverse of :func:`dct`."""
    return DiscreteCosineTransform(dim).inv(x)


def haar_transform(x: Tensor) -> Tensor:
    """Return the orthonormal Haar wavelet transform along the last dim."""
    return HaarTransform(-1)(x)


def inverse_haar_transform(x: Tensor) -> Tensor:
    """Return the inverse of :func:`haar_transform`."""
    return HaarTransform(-1).inv(x)
