"""Define transforms of vectors: ordering and normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import StackTransform as _TorchStackTransform
from torch.distributions.transforms import Transform
from torch.nn.functional import logsigmoid

from .. import constraints
from ..shapes import sum_rightmost


class OrderedTransform(Transform):
    """A free vector to an increasing one: the first entry, then exponentials of the others added up."""

    domain = constraints.real_vector
    codomain = constraints.ordered_vector
    bijective = True
    sign = +1
    event_dim = 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderedTransform)

    __hash__ = object.__hash__

    def _call(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :1], x[..., 1:].exp()], -1).cumsum(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat([y[..., :1], (y[..., 1:] - y[..., :-1]).log()], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x[..., 1:].sum(-1)


class SimplexToOrderedTransform(Transform):
    """Probabilities of ordinal outcomes to the cut points of a logistic variable that has them.

    :param anchor_point: location of the logistic variable; default 0.
    """

    domain = constraints.simplex
    codomain = constraints.ordered_vector
    bijective = True

    def __init__(self, anchor_point: Any = None, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.anchor_point = torch.as_tensor(0.0 if anchor_point is None else anchor_point)

    def with_cache(self, cache_size: int = 1) -> SimplexToOrderedTransform:
        if self._cache_size == cache_size:
            return self
        return SimplexToOrderedTransform(self.anchor_point, cache_size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimplexToOrderedTransform) and bool(
            (self.anchor_point == other.anchor_point).all()
        )

    __hash__ = object.__hash__

    def _call(self, x: Tensor) -> Tensor:
        below = x.cumsum(-1)[..., :-1]
        # Summed from the other end, the upper probability does not cancel.
        above = x.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        return self.anchor_point.unsqueeze(-1) + below.log() - above.log()

    def _inverse(self, y: Tensor) -> Tensor:
        s = torch.sigmoid(y - self.anchor_point.unsqueeze(-1))
        return torch.cat([s[..., :1], s[..., 1:] - s[..., :-1], 1.0 - s[..., -1:]], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        z = y - self.anchor_point.unsqueeze(-1)
        return -(logsigmoid(z) + logsigmoid(-z)).sum(-1)

    def forward_shape(self, shape: Any) -> torch.Size:
        return torch.Size((*shape[:-1], shape[-1] - 1))

    def inverse_shape(self, shape: Any) -> torch.Size:
        return torch.Size((*shape[:-1], shape[-1] + 1))


class StackTransform(_TorchStackTransform):
    """Different transforms for the slices along a dim, with the log determinants of an event added up.

    torch leaves them apart even where its domain counts the stacked dim as an event dim.
    """

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        inner = max(transform.domain.event_dim for transform in self.transforms)
        if self.dim != -1 - inner:
            return super().log_abs_det_jacobian(x, y)
        total: Any = 0.0
        for xs, ys, transform in zip(self._slice(x), self._slice(y), self.transforms, strict=True):
            part = transform.log_abs_det_jacobian(xs, ys)
            total = total + sum_rightmost(part, inner - transform.domain.event_dim)
        return total


class Normalize(Transform):
    """A vector divided by its p-norm; not a bijection, and its own right inverse.

    :param p: order of the norm, nonnegative.
    """

    domain = constraints.real_vector
    codomain = constraints.sphere
    bijective = False

    def __init__(self, p: float = 2, cache_size: int = 0) -> None:
        if p < 0:
            raise ValueError(f"Normalize takes a norm of order p >= 0, got {p}")
        self.p = p
        super().__init__(cache_size=cache_size)

    def with_cache(self, cache_size: int = 1) -> Normalize:
        return self if self._cache_size == cache_size else Normalize(self.p, cache_size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Normalize) and self.p == other.p

    __hash__ = object.__hash__

    def _call(self, x: Tensor) -> Tensor:
        return x / x.norm(p=self.p, dim=-1, keepdim=True)

    def _inverse(self, y: Tensor) -> Tensor:
        return y
