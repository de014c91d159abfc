"""Define products of Householder reflections."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform

from .. import constraints
from .modules import FromNetwork, OwnParameters


def reflect(x: Tensor, directions: Tensor, reverse: bool = False) -> Tensor:
    """Reflect vectors at hyperplanes, one after the other.

    :param x: ``batch + (D,)``.
    :param directions: normals of the planes, ``batch + (K, D)``.
    :param reverse: apply the last one first, which is the inverse.
    """
    order = range(directions.shape[-2])
    for index in reversed(order) if reverse else order:
        normal = directions[..., index, :]
        projection = (normal * x).sum(-1, keepdim=True) / normal.square().sum(-1, keepdim=True)
        x = x - 2.0 * projection * normal
    return x


class _Reflections(Transform):
    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, directions: Tensor) -> None:
        super().__init__(cache_size=1)
        self.directions = directions

    def _call(self, x: Tensor) -> Tensor:
        return reflect(x, self.directions)

    def _inverse(self, y: Tensor) -> Tensor:
        return reflect(y, self.directions, reverse=True)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)


class Householder(OwnParameters):
    """A product of Householder reflections: an orthogonal map (Tomczak & Welling 2016, arXiv 1611.09630).

    :param input_dim: dimension D.
    :param count_transforms: number of reflections, at most D make a difference.
    """

    volume_preserving = True

    def __init__(self, input_dim: int, count_transforms: int = 1) -> None:
        super().__init__()
        check_count(type(self).__name__, count_transforms)
        self.u_unnormed = nn.Parameter(torch.randn(count_transforms, input_dim))

    def given(self) -> Transform:
        """Return the transform with the present parameters."""
        return _Reflections(self.u_unnormed)


class ConditionalHouseholder(FromNetwork):
    """A product of Householder reflections whose directions depend on a context.

    :param input_dim: dimension D.
    :param nn: a network from a context to vectors of size D, one for each reflection.
    :param count_transforms: number of reflections.
    """

    def __init__(self, input_dim: int, nn: Any, count_transforms: int = 1) -> None:
        super().__init__(nn)
        check_count(type(self).__name__, count_transforms)

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        return _Reflections(torch.stack(self.parameters_at(context), -2))


def check_count(kind: str, count: int) -> None:
    """Raise ValueError unless a number of parts is positive."""
    if not count > 0:
        raise ValueError(f"{kind} needs a positive number of transforms, got {count}")
