"""Define monotone splines of rational functions on an interval, the identity outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions.transforms import Transform
from torch.nn.functional import pad, softmax, softplus

from .. import constraints
from .modules import FromNetwork, OwnParameters

_LEAST_BIN, _LEAST_SLOPE, _LEAST_SHARE = 1e-3, 1e-3, 0.025


def spline_sizes(count_bins: int, order: str) -> list[int]:
    """Return the numbers of parameters of a spline: widths, heights, slopes, and shares if it is linear.

    :raises ValueError: for an order that is none, or less than two bins.
    """
    if order not in ("linear", "quadratic"):
        raise ValueError(f"the order of a spline is 'linear' or 'quadratic', got {order!r}")
    if count_bins < 2:
        raise ValueError(f"a spline needs at least two bins, got {count_bins}")
    return [count_bins, count_bins, count_bins - 1] + [count_bins] * (order == "linear")


def monotone_spline(parameters: Sequence[Tensor], bound: float) -> Transform:
    """Return the elementwise spline that unconstrained parameters stand for.

    :param parameters: tensors ``batch + (size,)``, of the sizes that :func:`spline_sizes` gives.
    :param bound: half the length of the interval.
    """
    if len(parameters) == 3:
        from zuko.transforms import MonotonicRQSTransform

        return MonotonicRQSTransform(*parameters, bound=bound)
    widths, heights, slopes, shares = parameters
    return RationalLinear(widths, heights, slopes, shares, bound)


class RationalLinear(Transform):
    """The spline of rational linear functions, two for each bin (Dolatabadi et al. 2020, arXiv 2001.05168).

    :param widths: unconstrained widths of the bins, ``batch + (K,)``.
    :param heights: unconstrained heights of the bins, ``batch + (K,)``.
    :param slopes: unconstrained slopes at inner knots, ``batch + (K - 1,)``.
    :param shares: unconstrained places inside the bins where the two functions meet, ``batch + (K,)``.
    :param bound: the interval is ``[-bound, bound]``.
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(
        self, widths: Tensor, heights: Tensor, slopes: Tensor, shares: Tensor, bound: float = 3.0
    ) -> None:
        super().__init__()
        self.bound = bound
        self.x, self.y = _knots(widths, bound), _knots(heights, bound)
        # Slope one at the ends, as outside.
        self.slopes = pad(_LEAST_SLOPE + softplus(slopes), (1, 1), value=1.0)
        self.shares = _LEAST_SHARE + (1.0 - 2.0 * _LEAST_SHARE) * torch.sigmoid(shares)

    def _bin(self, value: Tensor, knots: Tensor) -> tuple[Tensor, ...]:
        """Return the bin's numbers: left end, width, both heights, the middle's, weights (eq. 6 to 10)."""
        index = (value.unsqueeze(-1) >= knots[..., 1:-1]).sum(-1)
        x0, x1 = _at(self.x, index), _at(self.x, index + 1)
        y0, y1 = _at(self.y, index), _at(self.y, index + 1)
        d0, d1 = _at(self.slopes, index), _at(self.slopes, index + 1)
        share = _at(self.shares, index)
        # Relative to the weight one of the left knot.
        w1 = (d0 / d1).sqrt()
        ym = ((1.0 - share) * y0 + share * w1 * y1) / ((1.0 - share) + share * w1)
        wm = (share * d0 + (1.0 - share) * w1 * d1) * (x1 - x0) / (y1 - y0)
        return x0, x1 - x0, y0, y1, ym, wm, w1, share

    def _call(self, x: Tensor) -> Tensor:
        inside = x.clamp(-self.bound, self.bound)
        x0, width, y0, y1, ym, wm, w1, share = self._bin(inside, self.x)
        place = (inside - x0) / width
        # Each function is evaluated on its own side only: beyond it may have a pole.
        p, q = torch.minimum(place, share), torch.maximum(place, share)
        left = (y0 * (share - p) + wm * ym * p) / ((share - p) + wm * p)
        right = (wm * ym * (1.0 - q) + w1 * y1 * (q - share)) / (wm * (1.0 - q) + w1 * (q - share))
        return torch.where(x.abs() < self.bound, torch.where(place <= share, left, right), x)

    def _inverse(self, y: Tensor) -> Tensor:
        inside = y.clamp(-self.bound, self.bound)
        x0, width, y0, y1, ym, wm, w1, share = self._bin(inside, self.y)
        p, q = torch.minimum(inside, ym), torch.maximum(inside, ym)
        left = share * (p - y0) / ((p - y0) + wm * (ym - p))
        right = (share * w1 * (y1 - q) + wm * (q - ym)) / (w1 * (y1 - q) + wm * (q - ym))
        place = torch.where(inside <= ym, left, right)
        return torch.where(y.abs() < self.bound, x0 + place * width, y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        inside = x.clamp(-self.bound, self.bound)
        x0, width, y0, y1, ym, wm, w1, share = self._bin(inside, self.x)
        place = (inside - x0) / width
        p, q = torch.minimum(place, share), torch.maximum(place, share)
        left = share * wm * (ym - y0) / ((share - p) + wm * p).square()
        right = (1.0 - share) * wm * w1 * (y1 - ym) / (wm * (1.0 - q) + w1 * (q - share)).square()
        slope = torch.where(place <= share, left, right) / width
        return torch.where(x.abs() < self.bound, slope, 1.0).log()


def _knots(sizes: Tensor, bound: float) -> Tensor:
    count = sizes.shape[-1]
    share = _LEAST_BIN + (1.0 - _LEAST_BIN * count) * softmax(sizes, -1)
    inner = 2.0 * bound * share[..., :-1].cumsum(-1) - bound
    return pad(pad(inner, (1, 0), value=-bound), (0, 1), value=bound)


def _at(table: Tensor, index: Tensor) -> Tensor:
    """Look up an entry for each value; a table may be shared by values."""
    table = table.expand((*index.shape, table.shape[-1]))
    return table.gather(-1, index.unsqueeze(-1)).squeeze(-1)


class Spline(OwnParameters):
    """Elementwise monotone splines, one for each of D entries (Durkan et al. 2019, arXiv 1906.04032).

    :param input_dim: dimension D.
    :param count_bins: number of bins K.
    :param bound: the spline is on ``[-bound, bound]``, the identity outside.
    :param order: "linear" or "quadratic", of the rational functions.
    """

    domain = constraints.real
    codomain = constraints.real
    sign = +1

    def __init__(
        self, input_dim: int, count_bins: int = 8, bound: float = 3.0, order: str = "linear"
    ) -> None:
        super().__init__()
        self.bound, self.order = bound, order
        names = ("unnormalized_widths", "unnormalized_heights", "unnormalized_derivatives", "shares")
        for name, size in zip(names, spline_sizes(count_bins, order), strict=False):
            self.register_parameter(name, nn.Parameter(torch.randn(input_dim, size)))

    def given(self) -> Transform:
        """Return the transform with the present parameters."""
        return monotone_spline(list(self.parameters()), self.bound)


class ConditionalSpline(FromNetwork):
    """Elementwise monotone splines that depend on a context.

    :param nn: a network from a context to widths, heights, slopes (and shares, if linear), each flattened
        from ``(D, size)``, of the sizes K, K, K - 1 (and K).
    :param input_dim: dimension D.
    :param count_bins: number of bins K.
    :param bound: see :class:`Spline`.
    :param order: see :class:`Spline`.
    """

    def __init__(
        self, nn: Any, input_dim: int, count_bins: int, bound: float = 3.0, order: str = "linear"
    ) -> None:
        super().__init__(nn)
        self.input_dim, self.bound = input_dim, bound
        self.sizes = spline_sizes(count_bins, order)

    def condition(self, context: Tensor) -> Transform:
        """Return the transform for a context."""
        found = self.parameters_at(context)
        rows = [each.reshape((*each.shape[:-1], self.input_dim, -1)) for each in found]
        return monotone_spline(rows, self.bound)
