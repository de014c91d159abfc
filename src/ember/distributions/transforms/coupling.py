"""Define transforms that leave one part of a vector, and change the other as the first part says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from .. import constraints
from .autoregressive import Affine
from .modules import ConditionalTransformModule, TransformModule, at_context
from .splines import Spline, monotone_spline, spline_sizes


class AffineCoupling(TransformModule):
    """``y = (x₁, μ(x₁) + σ(x₁) x₂)`` (Dinh et al. 2016, arXiv 1605.08803).

    :param split_dim: size of x₁, along ``dim``.
    :param hypernet: a network from x₁, flattened from ``dim`` on, to means and logarithms of scales of x₂,
        flattened so too.
    :param dim: a negative number, the dim along which vectors are split; it and those to the right are
        event dims.
    :param log_scale_min_clip: least logarithm of a scale.
    :param log_scale_max_clip: greatest logarithm of a scale.
    :raises ValueError: for a dim that is not negative.
    """

    bijective = True

    def __init__(
        self,
        split_dim: int,
        hypernet: Any,
        *,
        dim: int = -1,
        log_scale_min_clip: float = -5.0,
        log_scale_max_clip: float = 3.0,
    ) -> None:
        super().__init__()
        if dim >= 0:
            raise ValueError("'dim' keyword argument must be negative")
        self.split_dim, self.dim = split_dim, dim
        self.nn = hypernet
        self.log_scale_min_clip, self.log_scale_max_clip = log_scale_min_clip, log_scale_max_clip

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> Any:
        return constraints.independent(constraints.real, -self.dim)

    codomain = domain

    def _parts(self, value: Tensor) -> tuple[Tensor, Tensor]:
        first, second = value.split([self.split_dim, value.shape[self.dim] - self.split_dim], self.dim)
        return first, second

    def _elementwise(self, first: Tensor, second: Tensor) -> Affine:
        loc, log_scale = self.nn(first.flatten(self.dim))
        log_scale = log_scale.clamp(self.log_scale_min_clip, self.log_scale_max_clip)
        return Affine(loc.reshape(second.shape), log_scale.reshape(second.shape))

    def _call(self, x: Tensor) -> Tensor:
        first, second = self._parts(x)
        return torch.cat([first, self._elementwise(first, second)(second)], self.dim)

    def _inverse(self, y: Tensor) -> Tensor:
        first, second = self._parts(y)
        return torch.cat([first, self._elementwise(first, second).inv(second)], self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of the logarithms of the scales, ``batch``."""
        first, second = self._parts(x)
        return self._elementwise(first, second).log_scale.flatten(self.dim).sum(-1)


class ConditionalAffineCoupling(ConditionalTransformModule):
    """:class:`AffineCoupling` whose network takes a context too.

    :param split_dim: size of x₁.
    :param hypernet: a network of an input and a context.
    :param kwargs: further arguments of ``AffineCoupling``.
    """

    def __init__(self, split_dim: int, hypernet: nn.Module, **kwargs: Any) -> None:
        super().__init__()
        self.split_dim, self.nn, self.kwargs = split_dim, hypernet, kwargs

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        return AffineCoupling(self.split_dim, at_context(self.nn, context), **self.kwargs)


class SplineCoupling(TransformModule):
    """``y = (s(x₁), s(x₂; x₁))`` with monotone splines s (Durkan et al. 2019, arXiv 1906.04032).

    :param input_dim: dimension D.
    :param split_dim: size of x₁.
    :param hypernet: a network from x₁ to the parameters of splines of the entries of x₂, flattened from
        ``(D - split_dim, size)``, with the sizes K, K, K - 1 (and K, if linear).
    :param count_bins: number of bins K.
    :param bound: the splines are on ``[-bound, bound]``, the identity outside.
    :param order: "linear" or "quadratic".
    :param identity: leave x₁ as it is.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(
        self,
        input_dim: int,
        split_dim: int,
        hypernet: Any,
        count_bins: int = 8,
        bound: float = 3.0,
        order: str = "linear",
        identity: bool = False,
    ) -> None:
        super().__init__()
        self.input_dim, self.split_dim, self.bound = input_dim, split_dim, bound
        self.sizes = spline_sizes(count_bins, order)
        self.nn = hypernet
        self.lower_spline = None if identity else Spline(split_dim, count_bins, bound, order)

    def _elementwise(self, first: Tensor) -> Transform:
        free = self.input_dim - self.split_dim
        parameters = [each.reshape((*each.shape[:-1], free, -1)) for each in self.nn(first)]
        return monotone_spline(parameters, self.bound)

    def _call(self, x: Tensor) -> Tensor:
        first, second = x[..., : self.split_dim], x[..., self.split_dim :]
        image = first if self.lower_spline is None else self.lower_spline(first)
        return torch.cat([image, self._elementwise(first)(second)], -1)

    def _inverse(self, y: Tensor) -> Tensor:
        image, second = y[..., : self.split_dim], y[..., self.split_dim :]
        first = image if self.lower_spline is None else self.lower_spline._inv_call(image)
        return torch.cat([first, self._elementwise(first).inv(second)], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of the logarithms of the splines' slopes, ``batch``."""
        first, second = x[..., : self.split_dim], x[..., self.split_dim :]
        image, changed = y[..., : self.split_dim], y[..., self.split_dim :]
        total = self._elementwise(first).log_abs_det_jacobian(second, changed).sum(-1)
        if self.lower_spline is not None:
            total = total + self.lower_spline.log_abs_det_jacobian(first, image).sum(-1)
        return total
