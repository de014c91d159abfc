"""Define learned linear maps: matrix exponentials, and mixtures of an image's channels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from .. import constraints
from .modules import FromNetwork, OwnParameters


class _Exponential(Transform):
    """``y = exp(W) x``.

    :param weights: W, ``batch + (D, D)``.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, weights: Tensor) -> None:
        super().__init__(cache_size=1)
        self.weights = weights

    def _call(self, x: Tensor) -> Tensor:
        return (torch.linalg.matrix_exp(self.weights) @ x.unsqueeze(-1)).squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return (torch.linalg.matrix_exp(-self.weights) @ y.unsqueeze(-1)).squeeze(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        trace = self.weights.diagonal(dim1=-2, dim2=-1).sum(-1)
        return trace.expand(x.shape[:-1])


def _bounded(weights: Tensor, normalization: str, bound: float | None) -> Tensor:
    """Scale matrices so that a norm of theirs is ``bound``, or at most that."""
    limit = 1.0 if bound is None else bound
    if normalization == "weight":  # Frobenius norm
        return weights * (limit / weights.flatten(-2).norm(dim=-1)[..., None, None])
    if normalization == "spectral":
        norm = torch.linalg.matrix_norm(weights, ord=2)
        return weights * (limit / norm.clamp(min=limit))[..., None, None]
    return weights


class MatrixExponential(OwnParameters):
    """The linear map ``y = exp(W) x``, always invertible (Hoogeboom et al. 2020, arXiv 2006.01910).

    :param input_dim: dimension D.
    :param iterations: accepted for compatibility; the exponential is computed to machine precision.
    :param normalization: "none", or what is held at most ``bound``: "weight" scales W to that Frobenius norm,
        "spectral" scales it down if its spectral norm is larger.
    :param bound: see ``normalization``; default 1.
    :raises ValueError: for another normalization.
    """

    def __init__(
        self, input_dim: int, iterations: int = 8, normalization: str = "none", bound: float | None = None
    ) -> None:
        super().__init__()
        check_normalization(normalization)
        self.iterations, self.normalization, self.bound = iterations, normalization, bound
        scale = 1.0 / math.sqrt(input_dim)
        self.weights = nn.Parameter(torch.empty(input_dim, input_dim).uniform_(-scale, scale))

    def given(self) -> Transform:
        """Return the transform with the present parameters."""
        return _Exponential(_bounded(self.weights, self.normalization, self.bound))


class ConditionalMatrixExponential(FromNetwork):
    """The linear map ``y = exp(W) x`` with W from a context.

    :param input_dim: dimension D.
    :param nn: a network from a context to W, flattened to D² numbers.

    The other parameters are those of :class:`MatrixExponential`.
    """

    def __init__(
        self,
        input_dim: int,
        nn: Any,
        iterations: int = 8,
        normalization: str = "none",
        bound: float | None = None,
    ) -> None:
        super().__init__(nn)
        check_normalization(normalization)
        self.input_dim = input_dim
        self.iterations, self.normalization, self.bound = iterations, normalization, bound

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        (flat,) = self.parameters_at(context)
        weights = flat.reshape((*flat.shape[:-1], self.input_dim, self.input_dim))
        return _Exponential(_bounded(weights, self.normalization, self.bound))


def check_normalization(normalization: str) -> None:
    """Raise ValueError for a normalization that there is not."""
    if normalization not in ("none", "weight", "spectral"):
        raise ValueError(f"normalization is 'none', 'weight' or 'spectral', got {normalization!r}")


class _Channels(Transform):
    """``y = P L U x`` along the channels of images, the third dim from the right.

    :param lu: L below the diagonal (which is one) and U above and on it, ``batch + (C, C)``.
    :param permutation: P, ``(C, C)``.
    """

    domain = constraints.independent(constraints.real, 3)
    codomain = constraints.independent(constraints.real, 3)
    bijective = True

    def __init__(self, lu: Tensor, permutation: Tensor) -> None:
        super().__init__(cache_size=1)
        self.lu, self.permutation = lu, permutation
        identity = torch.eye(lu.shape[-1], dtype=lu.dtype, device=lu.device)
        self.lower, self.upper = lu.tril(-1) + identity, lu.triu()

    def _call(self, x: Tensor) -> Tensor:
        flat = self.permutation @ (self.lower @ (self.upper @ x.flatten(-2)))
        return flat.reshape((*flat.shape[:-1], *x.shape[-2:]))

    def _inverse(self, y: Tensor) -> Tensor:
        flat = self.permutation.mT @ y.flatten(-2)
        flat = torch.linalg.solve_triangular(self.lower, flat, upper=False, unitriangular=True)
        flat = torch.linalg.solve_triangular(self.upper, flat, upper=True)
        return flat.reshape((*flat.shape[:-1], *y.shape[-2:]))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        value = self.upper.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1) * x.shape[-2] * x.shape[-1]
        return value.expand(x.shape[:-3])


class GeneralizedChannelPermute(OwnParameters):
    """A learned invertible mixture of the channels of images, ``batch + (C, height, width)``.

    It is a 1 × 1 convolution (Kingma & Dhariwal 2018, arXiv 1807.03039, section 3.2), started as a rotation.

    :param channels: number of channels C.
    :param permutation: vector; the order of channels that stays fixed, by default that of the start.
    :raises ValueError: if it is not one.
    """

    permutation: Tensor

    def __init__(self, channels: int = 3, permutation: Tensor | None = None) -> None:
        super().__init__(cache_size=1)
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        pivots, lower, upper = torch.linalg.lu(rotation)
        if permutation is not None:
            pivots = matrix_of(permutation, channels).to(pivots)
        self.register_buffer("permutation", pivots)
        self.LU = nn.Parameter(lower.tril(-1) + upper)

    domain = _Channels.domain
    codomain = _Channels.codomain

    def given(self) -> Transform:
        """Return the transform with the present parameters."""
        return _Channels(self.LU, self.permutation)


class ConditionalGeneralizedChannelPermute(FromNetwork):
    """A mixture of the channels of images that depends on a context.

    :param nn: a network from a context to C² numbers: L below the diagonal, U above, the logarithms of U's
        diagonal on it.
    :param channels: number of channels C.
    :param permutation: vector; a fixed order of channels, at random by default.
    """

    permutation: Tensor

    def __init__(self, nn: Any, channels: int = 3, permutation: Tensor | None = None) -> None:
        super().__init__(nn)
        self.channels = channels
        order = torch.randperm(channels) if permutation is None else permutation
        self.register_buffer("permutation", matrix_of(order, channels))

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        (flat,) = self.parameters_at(context)
        matrix = flat.reshape((*flat.shape[:-1], self.channels, self.channels))
        diagonal = matrix.diagonal(dim1=-2, dim2=-1).exp().diag_embed()
        return _Channels(matrix.tril(-1) + matrix.triu(1) + diagonal, self.permutation)


def matrix_of(permutation: Tensor, size: int) -> Tensor:
    """Return the matrix whose product with a vector is the vector in another order."""
    if sorted(permutation.tolist()) != list(range(size)):
        raise ValueError(f"expected a permutation of 0 … {size - 1}, got {permutation.tolist()}")
    return torch.eye(size)[permutation]
