"""Integrate out the inner states of chains of quadratic forms, in O(log T) depth.

Forms over neighbouring states (a, b) are kept in blocks, so that merging two of them takes a factorisation
and a few products, and copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..multivariate import log_determinant
from .quadratic_forms import multiply_rows
from .reduction import Fields, reduce_time, with_time


class _Link(NamedTuple):
    """A form over (a, b): aᵀ i_a + bᵀ i_b - ½ aᵀ P_aa a - aᵀ P_ab b - ½ bᵀ P_bb b."""

    i_a: Tensor
    i_b: Tensor
    p_aa: Tensor
    p_ab: Tensor
    p_bb: Tensor


_DIMS = (1, 1, 2, 2, 2)

# (constants of x, constants of y, log volume, energy) → constants of the merged density
MergeConstants = Callable[[Fields, Fields, Tensor, Tensor], Fields]


def reduce_chain(
    info_vec: Tensor, precision: Tensor, constants: Fields, length: int, merge: MergeConstants
) -> tuple[Tensor, Tensor, Fields]:
    """Integrate out all but the first and last states.

    :param info_vec: ``batch + (T or 1, 2 n)``, or without batch dims.
    :param precision: ``batch + (T or 1, 2 n, 2 n)``, or without batch dims.
    :param constants: further parameters of the densities, ``batch + (T or 1,)``.
    :param length: T.
    :param merge: says what becomes of the constants.
    :returns: the same three over the first and last states, without a dim of time.
    """
    size = info_vec.shape[-1] // 2
    a, b = slice(None, size), slice(size, None)
    info_vec, precision = with_time(info_vec, 1), with_time(precision, 2)
    link = (
        info_vec[..., a],
        info_vec[..., b],
        precision[..., a, a],
        precision[..., a, b],
        precision[..., b, b],
    )
    identity = torch.eye(size, dtype=precision.dtype, device=precision.device)

    def combine(left: Fields, right: Fields) -> Fields:
        merged, volume, energy = _merge(_Link(*left[:5]), _Link(*right[:5]), identity)
        return (*merged, *merge(left[5:], right[5:], volume, energy))

    dims = _DIMS + (0,) * len(constants)
    whole = reduce_time((*link, *(with_time(each, 0) for each in constants)), dims, length, combine)
    i_a, i_b, p_aa, p_ab, p_bb = whole[:5]
    batch = torch.broadcast_shapes(i_a.shape[:-1], i_b.shape[:-1])
    info_vec = torch.cat([i_a.expand((*batch, size)), i_b.expand((*batch, size))], -1)
    rows = torch.cat([p_aa, p_ab], -1), torch.cat([p_ab.mT, p_bb], -1)
    return info_vec, torch.cat(rows, -2), whole[5:]


def _merge(x: _Link, y: _Link, identity: Tensor) -> tuple[_Link, Tensor, Tensor]:
    """Integrate out the state between two links; return also its log volume and energy."""
    factor = torch.linalg.cholesky(x.p_bb + y.p_aa)
    whitening = torch.linalg.solve_triangular(factor, identity.expand(factor.shape), upper=False)
    left, right = whitening @ x.p_ab.mT, whitening @ y.p_ab
    whitened = multiply_rows(x.i_b + y.i_a, whitening.mT)
    merged = _Link(
        x.i_a - multiply_rows(whitened, left),
        y.i_b - multiply_rows(whitened, right),
        x.p_aa - left.mT @ left,
        -(left.mT @ right),
        y.p_bb - right.mT @ right,
    )
    volume = 0.5 * factor.shape[-1] * math.log(2.0 * math.pi) - log_determinant(factor)
    return merged, volume, 0.5 * whitened.square().sum(-1)
