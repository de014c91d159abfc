"""Multiply chains of transfer matrices without underflow, and draw paths of states through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..gaussian_algebra.reduction import Fields, neighbours


def scaled(logits: Tensor) -> Fields:
    """Write matrices of logarithms as matrices whose rows have the maximum 1, and logarithms of their scales.

    The scales carry no gradient: what they stand for does not depend on them. Rows of -inf become zero.
    """
    top = logits.detach().amax(-1, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    return (logits - top).exp(), top.squeeze(-1)


def multiply(left: Fields, right: Fields) -> Fields:
    """Multiply scaled matrices, and scale the rows of the product anew."""
    (x, x_scale), (y, y_scale) = left, right
    top = y_scale.amax(-1, keepdim=True)
    product = (x * (y_scale - top).exp().unsqueeze(-2)) @ y
    scale = product.detach().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    return product / scale, x_scale + top + scale.squeeze(-1).log()


def logarithm(matrices: Fields) -> Tensor:
    """Return the logarithms of scaled matrices; -inf, with gradient zero, where they are zero."""
    matrix, scale = matrices
    possible = matrix > 0
    log = torch.where(possible, torch.where(possible, matrix, 1.0).log(), -torch.inf)
    return log + scale.unsqueeze(-1)


class _Level(NamedTuple):
    """Logarithms of the matrices left and right of the states in the middle, ``batch + (n, K, K)``."""

    left: Tensor
    right: Tensor


def draw_paths(initial_logits: Tensor, steps: Fields, sample_shape: Sequence[int]) -> Tensor:
    """Draw z_0, …, z_T with probability ∝ initial[z_0] ∏ steps[t][z_{t-1}, z_t], in O(log T) depth.

    Pairs of steps are multiplied up to the whole, whose two ends are drawn; then, level by level, each state
    in the middle of a pair given both ends.

    :param initial_logits: ``batch + (K,)``.
    :param steps: scaled matrices of logits, ``batch + (T, K, K)``.
    :returns: ``sample_shape + batch + (T + 1,)``, of integers.
    """
    levels: list[_Level] = []
    length = steps[0].shape[-3]
    while length > 1:
        half, odd = divmod(length, 2)
        pairs = [neighbours(field, dim, 2 * half) for field, dim in zip(steps, (-3, -2), strict=True)]
        left, right = zip(*pairs, strict=True)
        levels.append(_Level(logarithm(left), logarithm(right)))
        merged = multiply(left, right)
        if odd:
            last = (steps[0][..., -1:, :, :], steps[1][..., -1:, :])
            merged = (torch.cat([merged[0], last[0]], -3), torch.cat([merged[1], last[1]], -2))
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
