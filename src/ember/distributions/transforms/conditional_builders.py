"""Make transforms that wait for a context, together with their networks."""

from __future__ import annotations

from typing import Any

from ..networks import ConditionalAutoRegressiveNN, ConditionalDenseNN, DenseNN
from .autoregressive import (
    ConditionalAffineAutoregressive,
    ConditionalNeuralAutoregressive,
    ConditionalSplineAutoregressive,
)
from .builders import Sizes, coupling_sizes
from .coupling import ConditionalAffineCoupling
from .linear import ConditionalGeneralizedChannelPermute, ConditionalMatrixExponential
from .reflections import ConditionalHouseholder
from .residual import ConditionalPlanar, ConditionalRadial
from .splines import ConditionalSpline, spline_sizes


def conditional_affine_autoregressive(
    input_dim: int, context_dim: int, hidden_dims: Sizes = None, **kwargs: Any
) -> ConditionalAffineAutoregressive:
    """Make an affine autoregressive transform whose network takes a context of size ``context_dim`` too."""
    sizes = [10 * input_dim] if hidden_dims is None else list(hidden_dims)
    return ConditionalAffineAutoregressive(
        ConditionalAutoRegressiveNN(input_dim, context_dim, sizes), **kwargs
    )


def conditional_neural_autoregressive(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sizes = None,
    activation: str = "sigmoid",
    width: int = 16,
) -> ConditionalNeuralAutoregressive:
    """Make a neural autoregressive transform whose network takes a context of size ``context_dim`` too."""
    sizes = [3 * input_dim + 1] if hidden_dims is None else list(hidden_dims)
    network = ConditionalAutoRegressiveNN(input_dim, context_dim, sizes, param_dims=[width] * 3)
    return ConditionalNeuralAutoregressive(network, hidden_units=width, activation=activation)


def conditional_spline(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sizes = None,
    count_bins: int = 8,
    bound: float = 3.0,
    order: str = "linear",
) -> ConditionalSpline:
    """Make elementwise monotone splines that depend on a context, with their network."""
    sizes = [10 * input_dim] * 2 if hidden_dims is None else list(hidden_dims)
    heads = [input_dim * size for size in spline_sizes(count_bins, order)]
    network = DenseNN(context_dim, sizes, param_dims=heads)
    return ConditionalSpline(network, input_dim, count_bins, bound=bound, order=order)


def conditional_spline_autoregressive(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sizes = None,
    count_bins: int = 8,
    bound: float = 3.0,
    order: str = "linear",
) -> ConditionalSplineAutoregressive:
    """Make autoregressive splines whose network takes a context of size ``context_dim`` too."""
    sizes = [10 * input_dim] * 2 if hidden_dims is None else list(hidden_dims)
    heads = spline_sizes(count_bins, order)
    network = ConditionalAutoRegressiveNN(input_dim, context_dim, sizes, param_dims=heads)
    return ConditionalSplineAutoregressive(
        input_dim, network, count_bins=count_bins, bound=bound, order=order
    )


def conditional_affine_coupling(
    input_dim: Any,
    context_dim: int,
    hidden_dims: Sizes = None,
    split_dim: int | None = None,
    dim: int = -1,
    **kwargs: Any,
) -> ConditionalAffineCoupling:
    """Make an affine coupling whose network takes a context of size ``context_dim`` too."""
    first, second, split, sizes = coupling_sizes(input_dim, hidden_dims, split_dim, dim)
    network = ConditionalDenseNN(first, context_dim, sizes, param_dims=[second, second])
    return ConditionalAffineCoupling(split, network, dim=dim, **kwargs)


def conditional_planar(input_dim: int, context_dim: int, hidden_dims: Sizes = None) -> ConditionalPlanar:
    """Make a planar flow that depends on a context, with its network."""
    sizes = [10 * input_dim] * 2 if hidden_dims is None else list(hidden_dims)
    return ConditionalPlanar(DenseNN(context_dim, sizes, param_dims=[1, input_dim, input_dim]))


def conditional_radial(input_dim: int, context_dim: int, hidden_dims: Sizes = None) -> ConditionalRadial:
    """Make a radial flow that depends on a context, with its network."""
    sizes = [10 * input_dim] * 2 if hidden_dims is None else list(hidden_dims)
    return ConditionalRadial(DenseNN(context_dim, sizes, param_dims=[input_dim, 1, 1]))


def conditional_householder(
    input_dim: int, context_dim: int, hidden_dims: Sizes = None, count_transforms: int = 1
) -> ConditionalHouseholder:
    """Make a product of reflections that depends on a context, with its network."""
    sizes = [10 * input_dim] if hidden_dims is None else list(hidden_dims)
    network = DenseNN(context_dim, sizes, param_dims=[input_dim] * count_transforms)
    return ConditionalHouseholder(input_dim, network, count_transforms)


def conditional_matrix_exponential(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sizes = None,
    iterations: int = 8,
    normalization: str = "none",
    bound: float | None = None,
) -> ConditionalMatrixExponential:
    """Make a linear map that depends on a context, with its network."""
    sizes = [10 * input_dim] * 2 if hidden_dims is None else list(hidden_dims)
    network = DenseNN(context_dim, sizes, param_dims=[input_dim * input_dim])
    return ConditionalMatrixExponential(input_dim, network, iterations, normalization, bound)


def conditional_generalized_channel_permute(
    context_dim: int, channels: int = 3, hidden_dims: Sizes = None
) -> ConditionalGeneralizedChannelPermute:
    """Make a mixture of channels that depends on a context, with its network."""
    sizes = [10 * channels] * 2 if hidden_dims is None else list(hidden_dims)
    network = DenseNN(context_dim, sizes, param_dims=[channels * channels])
    return ConditionalGeneralizedChannelPermute(network, channels)
