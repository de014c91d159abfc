"""Multiply chains of transfer matrices, and draw paths of states through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..gaussian_algebra.reduction import Fields, neighbours

_LARGEST = 700.0  # whose exponential is finite
# Matrices of up to so many rows are multiplied as logarithms: exact, at the price of K^3 exponentials.
_SMALL = 8


def matrices(logits: Tensor) -> Fields:
    """Write matrices of logarithms as :func:`multiply` takes them.

    Small ones stay as they are. Larger ones become matrices whose rows have the maximum 1, and logarithms of
    their scales; what is smaller than the maximum of its row by a factor of 1e308 is lost. The scales carry
    no gradient: what they stand for does not depend on them. Rows of -inf become zero.
    """
    if logits.shape[-1] <= _SMALL:
        return (logits,)
    top = logits.detach().amax(-1, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    return (logits - top).exp(), top.squeeze(-1)


def event_dims(form: Fields) -> tuple[int, ...]:
    """Return the number of event dims of each tensor of a matrix."""
    return (2, 1)[: len(form)]


def multiply(left: Fields, right: Fields) -> Fields:
    """Multiply matrices of one form."""
    if len(left) == 1:
        terms = left[0].unsqueeze(-1) + right[0].unsqueeze(-3)
        top = terms.detach().amax(-2, keepdim=True)
        top = torch.where(torch.isfinite(top), top, 0.0)
        return (_log((terms - top).exp().sum(-2)) + top.squeeze(-2),)
    (x, x_scale), (y, y_scale) = left, right
    possible = x > 0
    # Each row has a scale of its own, that of the largest of its terms.
    size = x.detach().log() + y_scale.unsqueeze(-2)
    top = size.amax(-1, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    weights = torch.where(possible, y_scale.unsqueeze(-2) - top, -torch.inf).clamp(max=_LARGEST).exp()
    product = (x * weights) @ y
    scale = product.detach().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    return product / scale, x_scale + (top + scale.log()).squeeze(-1)


def logarithm(form: Fields) -> Tensor:
    """Return the logarithms of matrices."""
    if len(form) == 1:
        return form[0]
    matrix, scale = form
    return _log(matrix) + scale.unsqueeze(-1)


def _log(numbers: Tensor) -> Tensor:
    """Return the logarithms; -inf, with gradient zero, of zeros."""
    positive = numbers > 0
    return torch.where(positive, torch.where(positive, numbers, 1.0).log(), -torch.inf)


class _Level(NamedTuple):
    """Logarithms of the matrices left and right of the states in the middle, ``batch + (n, K, K)``."""

    left: Tensor
    right: Tensor


def draw_paths(initial_logits: Tensor, steps: Fields, sample_shape: Sequence[int]) -> Tensor:
    """Draw z_0, …, z_T with probability ∝ initial[z_0] ∏ steps[t][z_{t-1}, z_t], in O(log T) depth.

    Pairs of steps are multiplied up to the whole, whose two ends are drawn; then, level by level, each state
    in the middle of a pair given both ends.

    :param initial_logits: ``batch + (K,)``.
    :param steps: matrices of logits, ``batch + (T, K, K)``.
    :returns: ``sample_shape + batch + (T + 1,)``, of integers.
    """
    levels: list[_Level] = []
    length = steps[0].shape[-3]
    times = [-1 - dims for dims in event_dims(steps)]
    while length > 1:
        half, odd = divmod(length, 2)
        pairs = [neighbours(field, dim, 2 * half) for field, dim in zip(steps, times, strict=True)]
        left, right = zip(*pairs, strict=True)
        levels.append(_Level(logarithm(left), logarithm(right)))
        merged = multiply(left, right)
        if odd:
            merged = tuple(
                torch.cat([product, field.narrow(dim, length - 1, 1)], dim)
                for product, field, dim in zip(merged, steps, times, strict=True)
            )
        steps, length = merged, half + odd
    whole = logarithm(steps).squeeze(-3) + initial_logits.unsqueeze(-1)
    count = whole.shape[-1]
    ends = _draw_index(whole.flatten(-2).expand((*sample_shape, *whole.shape[:-2], count * count)))
    states = torch.stack([ends // count, ends % count], -1)
    for level in reversed(levels):
        states = _split(level, states)
    return states


def _split(level: _Level, states: Tensor) -> Tensor:
    """Draw the states between neighbours, and put them in their places."""
    half = level.left.shape[-3]
    before, after = states[..., :half], states[..., 1 : half + 1]
    shape = (*before.shape, *level.left.shape[-2:])
    row = before[..., None, None].expand((*before.shape, 1, shape[-1]))
    column = after[..., None, None].expand((*before.shape, shape[-1], 1))
    logits = level.left.expand(shape).gather(-2, row).squeeze(-2)
    logits = logits + level.right.expand(shape).gather(-1, column).squeeze(-1)
    woven = torch.stack([before, _draw_index(logits)], -1).flatten(-2)
    return torch.cat([woven, states[..., half:]], -1)


def _draw_index(logits: Tensor) -> Tensor:
    """Return an index along the last dim, drawn with these logits: the largest with Gumbel noise."""
    return (logits - torch.empty_like(logits).exponential_().log()).argmax(-1)
