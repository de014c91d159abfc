"""Draw random numbers from keys: a counter-based generator that runs the same eagerly and as machine code.

A key is an int64 tensor of shape ``(2,)``. Equal keys give equal numbers; :func:`fold_in` and :func:`split`
derive new ones. The bits come from Threefry-2x64 with 20 rounds (Salmon, Moraes, Dror & Shaw 2011,
*Parallel random numbers: as easy as 1, 2, 3*, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ember.errors import message

_ROTATIONS = (16, 42, 12, 31, 16, 32, 24, 21)
_PARITY = 0x1BD11BDAA9FC1A22
# The second counter word keeps streams apart: that of fold_in, and those of random_bits, of which 0 is the
# default and those from FIRST_STREAM on belong to the random operations of a captured function.
_FOLD, FIRST_STREAM = 1, 2
_MASK64 = (1 << 64) - 1


def threefry(key: np.ndarray, counter: np.ndarray, word: int) -> tuple[np.ndarray, np.ndarray]:
    """Encrypt the blocks ``(counter[i], word)`` under ``key``; all uint64, arithmetic modulo 2**64."""
    k0, k1 = int(key[0]), int(key[1])
    schedule = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0 = counter + np.uint64(k0)
    x1 = np.full_like(counter, (word + k1) & _MASK64)
    for group in range(5):
        for rotation in _ROTATIONS[:4] if group % 2 == 0 else _ROTATIONS[4:]:
            x0 = x0 + x1
            x1 = (x1 << np.uint64(rotation)) | (x1 >> np.uint64(64 - rotation))
            x1 = x1 ^ x0
        x0 = x0 + np.uint64(schedule[(group + 1) % 3])
        x1 = x1 + np.uint64((schedule[(group + 2) % 3] + group + 1) & _MASK64)
    return x0, x1


def _random_bits_eager(key: torch.Tensor, num: int, stream: int = 0) -> torch.Tensor:
    words = key.detach().numpy().view(np.uint64)
    x0, x1 = threefry(words, np.arange((num + 1) // 2, dtype=np.uint64), stream)
    return torch.from_numpy(np.concatenate([x0, x1])[:num].view(np.int64))


def _uniform_eager(
    key: torch.Tensor, shape: Sequence[int], digits: int = 52, stream: int = 0
) -> torch.Tensor:
    return uniform_from_bits(_random_bits_eager(key, math.prod(shape), stream).reshape(tuple(shape)), digits)


def _fold_in_eager(key: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    words = key.detach().numpy().view(np.uint64)
    counter = data.detach().reshape(1).numpy().view(np.uint64)
    return torch.from_numpy(np.concatenate(threefry(words, counter, _FOLD)).view(np.int64))


def _permutation_eager(key: torch.Tensor, n: int, count: int, stream: int = 0) -> torch.Tensor:
    # The first words of blocks do not depend on how many there are.
    words = _random_bits_eager(key, 2 * count, stream).numpy().view(np.uint64)[:count]
    left = np.uint64(n) - np.arange(count, dtype=np.uint64)
    # The high word of words * left; left has at most 32 bits.
    low = (words & np.uint64(0xFFFFFFFF)) * left >> np.uint64(32)
    steps = ((words >> np.uint64(32)) * left + low) >> np.uint64(32)
    order = list(range(n))
    for place, step in enumerate(steps.tolist()):
        other = place + step
        order[place], order[other] = order[other], order[place]
    return torch.tensor(order[:count], dtype=torch.int64)


def _single_quantile_eager(probability: torch.Tensor) -> torch.Tensor:
    return torch.special.ndtri(probability).to(torch.float32)


# Operations of their own, so that a capture sees one node and machine code inlines the rounds.
_library = torch.library.Library("ember", "DEF")
_library.define("random_bits(Tensor key, int num, int stream=0) -> Tensor")
_library.define("uniform(Tensor key, int[] shape, int digits=52, int stream=0) -> Tensor")
_library.define("fold_in(Tensor key, Tensor data) -> Tensor")
_library.define("permutation(Tensor key, int n, int count, int stream=0) -> Tensor")
_library.define("single_quantile(Tensor probability) -> Tensor")
_library.impl("random_bits", _random_bits_eager, "CPU")
_library.impl("uniform", _uniform_eager, "CPU")
_library.impl("fold_in", _fold_in_eager, "CPU")
_library.impl("permutation", _permutation_eager, "CPU")
_library.impl("single_quantile", _single_quantile_eager, "CPU")


def _blank(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


# Shapes alone, for captures.
_library.impl("random_bits", lambda key, num, stream=0: _blank((num,), torch.int64), "Meta")
_library.impl("uniform", lambda key, shape, digits=52, stream=0: _blank(shape, torch.float64), "Meta")
_library.impl("fold_in", lambda key, data: _blank((2,), torch.int64), "Meta")
_library.impl("permutation", lambda key, n, count, stream=0: _blank((count,), torch.int64), "Meta")
_library.impl("single_quantile", lambda probability: _blank(probability.shape, torch.float32), "Meta")


def key(seed: int) -> torch.Tensor:
    """Make a key from a seed (any Python int; its lowest 64 bits count)."""
    word = seed & _MASK64
    return torch.tensor([word - (1 << 64) if word >> 63 else word, 0], dtype=torch.int64)


def fold_in(key: torch.Tensor, data: int | torch.Tensor) -> torch.Tensor:
    """Derive a key from ``key`` and an int or int64 scalar tensor, such as a step number."""
    if not isinstance(data, torch.Tensor):
        data = torch.tensor(data, dtype=torch.int64)
    return torch.ops.ember.fold_in(key, data)


def split(key: torch.Tensor, num: int = 2) -> tuple[torch.Tensor, ...]:
    """Derive ``num`` independent keys."""
    return tuple(fold_in(key, index) for index in range(num))


def random_bits(key: torch.Tensor, num: int, stream: int = 0) -> torch.Tensor:
    """Draw ``num`` int64 numbers of 64 random bits each, shape ``(num,)``.

    :param stream: streams of one key are independent; 1 belongs to :func:`fold_in`.
    """
    return torch.ops.ember.random_bits(key, num, stream)


def uniform(
    key: torch.Tensor, shape: Sequence[int] = (), dtype: torch.dtype = torch.float64, stream: int = 0
) -> torch.Tensor:
    """Draw from the open interval (0, 1), on a grid of 2**52 points (2**23 for float32)."""
    digits = 52 if dtype == torch.float64 else 23
    return _as(dtype, torch.ops.ember.uniform(key, tuple(shape), digits, stream))


def uniform_from_bits(bits: torch.Tensor, digits: int = 52) -> torch.Tensor:
    """Turn int64 numbers of random bits into float64 draws from (0, 1), by the highest ``digits`` bits."""
    integers = (bits >> (64 - digits)) & ((1 << digits) - 1)
    return (integers.to(torch.float64) + 0.5) * 2.0**-digits


def normal(
    key: torch.Tensor, shape: Sequence[int] = (), dtype: torch.dtype = torch.float64, stream: int = 0
) -> torch.Tensor:
    """Draw from the standard normal distribution by inversion."""
    probability = uniform(key, shape, torch.float64, stream)
    if dtype == torch.float32:
        # An operation of its own, since machine code needs only the digits of float32.
        return torch.ops.ember.single_quantile(probability)
    return _as(dtype, torch.special.ndtri(probability))


def _as(dtype: torch.dtype, numbers: torch.Tensor) -> torch.Tensor:
    return numbers if numbers.dtype == dtype else numbers.to(dtype)


def permutation(key: torch.Tensor, n: int, count: int | None = None, stream: int = 0) -> torch.Tensor:
    """Draw the first ``count`` numbers of a random order of ``0 … n-1``, by the shuffle of Fisher and Yates.

    They are the same whatever ``count`` is, so that a short beginning costs no more than its length.

    :raises ValueError: for ``n`` of 2**32 or more.
    """
    if n >= 1 << 32:
        raise ValueError(message("a permutation is too long", expected="n < 2**32", actual=f"n={n}"))
    return torch.ops.ember.permutation(key, n, n if count is None else count, stream)
