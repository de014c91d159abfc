"""Integrate and draw the inner variables of a chain of Gaussian densities, in O(log T) depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import message
from .gaussian import Gaussian, broadcast_batch, merge
from .links import reduce_chain
from .quadratic_forms import Elimination
from .reduction import Fields, neighbours


def sequential_gaussian_tensordot(gaussian: Gaussian) -> Gaussian:
    """Integrate out all but the first and last variables of a chain.

    Parameters with a dim of time of size 1 (or none) stand for all times, and cost as much as one of them.

    :param gaussian: densities over (z_{t-1}, z_t), of batch shape ``batch + (T,)``.
    :returns: a density over (z_0, z_T) of batch shape ``batch``.
    """
    state_size(gaussian)

    def merge_constants(x: Fields, y: Fields, volume: Tensor, energy: Tensor) -> Fields:
        return (x[0] + y[0] + volume + energy,)

    info_vec, precision, constants = reduce_chain(
        gaussian.info_vec,
        gaussian.precision,
        (gaussian.log_normalizer,),
        gaussian.batch_shape[-1],
        merge_constants,
    )
    return Gaussian(constants[0], info_vec, precision)


def state_size(gaussian: Any) -> int:
    """Return half the number of variables.

    :raises ValueError: if that is odd, or there is no dim of time.
    """
    half, odd = divmod(gaussian.dim(), 2)
    if odd or not gaussian.batch_shape or gaussian.batch_shape[-1] < 1:
        raise ValueError(
            message(
                "A chain consists of densities over pairs of states, along the rightmost batch dim.",
                expected="an even number of variables, batch_shape (..., T) with T >= 1",
                actual=f"{gaussian.dim()} variables, batch_shape {tuple(gaussian.batch_shape)}",
            )
        )
    return half


class _Level(NamedTuple):
    """What is needed to draw the states in the middle of pairs of elements."""

    middle: Elimination
    nodes: list[int]


def sequential_gaussian_filter_sample(
    init: Gaussian,
    trans: Gaussian,
    sample_shape: Sequence[int] = (),
    noise: Tensor | None = None,
) -> Tensor:
    """Draw all states of a chain jointly: pairs are merged up to the whole, which is drawn and split again.

    :param init: density of z_0, of batch shape ``batch``.
    :param trans: densities over (z_{t-1}, z_t), of batch shape ``batch + (T,)``.
    :param noise: standard normal numbers of shape ``sample_shape + batch + (T + 1, size)`` to transform.
    :returns: z_0, …, z_T along the dim left of the last, ``sample_shape + batch + (T + 1, size)``.
    """
    size = state_size(trans)
    length = trans.batch_shape[-1]
    batch = broadcast_batch(init[..., None] if init.batch_shape else init, trans)[:-1]
    current = trans.expand((*batch, length))
    if noise is None:
        shape = (*sample_shape, *batch, length + 1, size)
        noise = torch.empty(shape, dtype=trans.info_vec.dtype, device=trans.info_vec.device).normal_()
    levels = []
    dims = tuple(Gaussian.fields.values())
    nodes = list(range(length + 1))
    while length > 1:
        half, odd = divmod(length, 2)
        pairs = [neighbours(t, -1 - d, 2 * half) for t, d in zip(current.tensors(), dims, strict=True)]
        left, right = (Gaussian(*each) for each in zip(*pairs, strict=True))
        merged, middle = merge(left, right, size)
        levels.append(_Level(middle, nodes[1 : 2 * half : 2]))
        nodes = nodes[0::2] + (nodes[-1:] if odd else [])
        current = Gaussian.cat([merged, current[..., -1:]], -1) if odd else merged
        length = half + odd
    whole = current[..., 0] + init.event_pad(right=size)
    ends = torch.cat([noise[..., 0, :], noise[..., -1, :]], -1)
    states = whole.rsample(sample_shape, noise=ends).unflatten(-1, (2, size))
    for level in reversed(levels):
        states = _split(level.middle, states, noise[..., level.nodes, :])
    return states


def _split(middle: Elimination, states: Tensor, noise: Tensor) -> Tensor:
    """Draw the states between neighbours, and put them in their places."""
    half = middle.whitened.shape[-2]
    ends = torch.cat([states[..., :half, :], states[..., 1 : half + 1, :]], -1).unsqueeze(-1)
    whitened = middle.whitened + noise - (middle.cross @ ends).squeeze(-1)
    drawn = torch.linalg.solve_triangular(middle.factor.mT, whitened.unsqueeze(-1), upper=True).squeeze(-1)
    woven = torch.stack([states[..., :half, :], drawn], -2).flatten(-3, -2)
    return torch.cat([woven, states[..., half:, :]], -2)
