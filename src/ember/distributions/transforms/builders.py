"""Make transforms together with the networks that they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import TanhTransform

from ..networks import AutoRegressiveNN, DenseNN
from .autoregressive import AffineAutoregressive, NeuralAutoregressive, Polynomial, SplineAutoregressive
from .batch_norm import BatchNorm
from .block_autoregressive import BlockAutoregressive
from .coupling import AffineCoupling, SplineCoupling
from .elementwise import ELUTransform, LeakyReLUTransform
from .linear import GeneralizedChannelPermute, MatrixExponential
from .orthogonal import Permute
from .reflections import Householder
from .residual import Planar, Radial, Sylvester
from .splines import Spline, spline_sizes

Sizes = Sequence[int] | None


def affine_autoregressive(
    input_dim: int, hidden_dims: Sizes = None, nonlinearity: nn.Module | None = None, **kwargs: Any
) -> AffineAutoregressive:
    """Make an affine autoregressive transform with its network.

    :param input_dim: dimension D.
    :param hidden_dims: sizes of the hidden layers; ``[3 D + 1]`` by default.
    :param nonlinearity: module between layers; ReLU by default.
    :param kwargs: see :class:`~ember.distributions.transforms.AffineAutoregressive`.
    """
    sizes = [3 * input_dim + 1] if hidden_dims is None else list(hidden_dims)
    return AffineAutoregressive(AutoRegressiveNN(input_dim, sizes, nonlinearity=nonlinearity), **kwargs)


def neural_autoregressive(
    input_dim: int, hidden_dims: Sizes = None, activation: str = "sigmoid", width: int = 16
) -> NeuralAutoregressive:
    """Make a neural autoregressive transform with its network.

    :param input_dim: dimension D.
    :param hidden_dims: sizes of the network's hidden layers; ``[3 D + 1]`` by default.
    :param activation: of the monotone networks: "sigmoid", "tanh", "ELU" or "leaky_relu".
    :param width: of the monotone networks.
    """
    sizes = [3 * input_dim + 1] if hidden_dims is None else list(hidden_dims)
    network = AutoRegressiveNN(input_dim, sizes, param_dims=[width] * 3)
    return NeuralAutoregressive(network, hidden_units=width, activation=activation)


def block_autoregressive(input_dim: int, **kwargs: Any) -> BlockAutoregressive:
    """Make a block neural autoregressive transform; see its class."""
    return BlockAutoregressive(input_dim, **kwargs)


def polynomial(input_dim: int, hidden_dims: Sizes = None) -> Polynomial:
    """Make a transform by three squares of polynomials of degree four, with its network."""
    degree, count = 4, 3
    sizes = [10 * input_dim] if hidden_dims is None else list(hidden_dims)
    network = AutoRegressiveNN(input_dim, sizes, param_dims=[(degree + 1) * count])
    return Polynomial(network, input_dim, count_degree=degree, count_sum=count)


def spline(input_dim: int, **kwargs: Any) -> Spline:
    """Make elementwise monotone splines; see :class:`~ember.distributions.transforms.Spline`."""
    return Spline(input_dim, **kwargs)


def spline_autoregressive(
    input_dim: int,
    hidden_dims: Sizes = None,
    count_bins: int = 8,
    bound: float = 3.0,
    order: str = "linear",
) -> SplineAutoregressive:
    """Make autoregressive splines with their network."""
    sizes = [10 * input_dim] * 2 if hidden_dims is None else list(hidden_dims)
    network = AutoRegressiveNN(input_dim, sizes, param_dims=spline_sizes(count_bins, order))
    return SplineAutoregressive(input_dim, network, count_bins=count_bins, bound=bound, order=order)


def spline_coupling(
    input_dim: int,
    split_dim: int | None = None,
    hidden_dims: Sizes = None,
    count_bins: int = 8,
    bound: float = 3.0,
    order: str = "linear",
    identity: bool = False,
) -> SplineCoupling:
    """Make a coupling by splines with its network; half of the entries are x₁ by default."""
    split = input_dim // 2 if split_dim is None else split_dim
    sizes = [10 * input_dim] * 2 if hidden_dims is None else list(hidden_dims)
    heads = [(input_dim - split) * size for size in spline_sizes(count_bins, order)]
    network = DenseNN(split, sizes, param_dims=heads)
    return SplineCoupling(input_dim, split, network, count_bins, bound, order, identity)


def affine_coupling(
    input_dim: Any, hidden_dims: Sizes = None, split_dim: int | None = None, dim: int = -1, **kwargs: Any
) -> AffineCoupling:
    """Make an affine coupling with its network.

    :param input_dim: size of the event; for ``dim`` other than -1 the sizes of the dims from there on.
    :param hidden_dims: sizes of the hidden layers.
    :param split_dim: size of x₁ along ``dim``; half of it by default.
    :param dim: the dim to split.
    :param kwargs: see :class:`~ember.distributions.transforms.AffineCoupling`.
    """
    first, second, split, sizes = coupling_sizes(input_dim, hidden_dims, split_dim, dim)
    network = DenseNN(first, sizes, param_dims=[second, second])
    return AffineCoupling(split, network, dim=dim, **kwargs)


def planar(input_dim: int) -> Planar:
    """Make a planar flow."""
    return Planar(input_dim)


def radial(input_dim: int) -> Radial:
    """Make a radial flow."""
    return Radial(input_dim)


def sylvester(input_dim: int, count_transforms: int | None = None) -> Sylvester:
    """Make a Sylvester flow, by default with ``D // 2 + 1`` reflections."""
    return Sylvester(input_dim, input_dim // 2 + 1 if count_transforms is None else count_transforms)


def householder(input_dim: int, count_transforms: int | None = None) -> Householder:
    """Make a product of reflections, by default of ``D // 2 + 1``."""
    return Householder(input_dim, input_dim // 2 + 1 if count_transforms is None else count_transforms)


def matrix_exponential(
    input_dim: int, iterations: int = 8, normalization: str = "none", bound: float | None = None
) -> MatrixExponential:
    """Make a linear map by a matrix exponential; see its class."""
    return MatrixExponential(input_dim, iterations, normalization, bound)


def generalized_channel_permute(**kwargs: Any) -> GeneralizedChannelPermute:
    """Make a learned mixture of channels; see its class."""
    return GeneralizedChannelPermute(**kwargs)


def permute(input_dim: int, permutation: Tensor | None = None, dim: int = -1) -> Permute:
    """Make a fixed order of entries along a dim, at random by default."""
    if permutation is None:
        permutation = torch.randperm(input_dim)
    return Permute(permutation, dim=dim)


def batchnorm(input_dim: int, **kwargs: Any) -> BatchNorm:
    """Make a batch normalisation; see :class:`~ember.distributions.transforms.BatchNorm`."""
    return BatchNorm(input_dim, **kwargs)


def elu() -> ELUTransform:
    """Make the exponential linear unit."""
    return ELUTransform()


def leaky_relu() -> LeakyReLUTransform:
    """Make the leaky rectifier."""
    return LeakyReLUTransform()


def tanh() -> TanhTransform:
    """Make the hyperbolic tangent."""
    return TanhTransform()


def coupling_sizes(
    input_dim: Any, hidden_dims: Sizes, split_dim: int | None, dim: int
) -> tuple[int, int, int, list[int]]:
    """Return the flattened sizes of x₁ and x₂, the size of x₁ along the dim, and the hidden sizes."""
    shape = (input_dim,) if isinstance(input_dim, int) else tuple(input_dim)
    if len(shape) != -dim:
        raise ValueError(f"input_dim must have the sizes of the last {-dim} dims, got {shape}")
    split = shape[0] // 2 if split_dim is None else split_dim
    rest = math.prod(shape[1:])
    sizes = [10 * math.prod(shape)] if hidden_dims is None else list(hidden_dims)
    return split * rest, (shape[0] - split) * rest, split, sizes
