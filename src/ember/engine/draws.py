"""Say torch's random operations in terms of streams of a key, one line each where possible.

A function takes the stream of the operation and ATen's arguments. Those whose first argument is only looked
at for its shape and dtype, such as ``normal_``, take it under the name ``like``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ember.engine.streams import Stream

aten = torch.ops.aten


def options(given: dict[str, Any]) -> dict[str, Any]:
    """Drop the keyword arguments that say where and how the result is stored."""
    kept = dict(given)
    for name in ("generator", "layout", "device", "pin_memory", "memory_format"):
        kept.pop(name, None)
    return kept


def _dtype(dtype: torch.dtype | None) -> torch.dtype:
    return torch.get_default_dtype() if dtype is None else dtype


def _uniform(s: Stream, like: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    u = s.uniform(like.shape, like.dtype)
    return u if (low, high) == (0.0, 1.0) else low + (high - low) * u


def _normal(s: Stream, shape: Sequence[int], dtype: torch.dtype, mean: Any = 0.0, std: Any = 1.0) -> Tensor:
    z = s.normal(shape, dtype)
    if isinstance(std, Tensor) or std != 1.0:
        z = z * std
    return z + mean if isinstance(mean, Tensor) or mean != 0.0 else z


def _normal_around(s: Stream, mean: Any, std: Any = 1.0) -> Tensor:
    joint = torch.broadcast_tensors(*(each for each in (mean, std) if isinstance(each, Tensor)))[0]
    return _normal(s, joint.shape, joint.dtype, mean, std)


def _exponential(s: Stream, like: Tensor, rate: float = 1.0) -> Tensor:
    return -torch.log(s.uniform(like.shape, torch.float64)) / rate


def _cauchy(s: Stream, like: Tensor, median: float = 0.0, sigma: float = 1.0) -> Tensor:
    return median + sigma * torch.tan(math.pi * (s.uniform(like.shape, torch.float64) - 0.5))


def _log_normal(s: Stream, like: Tensor, mean: float = 1.0, std: float = 2.0) -> Tensor:
    return torch.exp(_normal(s, like.shape, torch.float64, mean, std))


def _geometric(s: Stream, like: Tensor, p: float) -> Tensor:
    if p == 1.0:
        return torch.ones(like.shape, dtype=torch.float64)
    return torch.ceil(torch.log(s.uniform(like.shape, torch.float64)) / math.log1p(-p))


def _bernoulli(s: Stream, like: Tensor, p: Any = 0.5) -> Tensor:
    # In float64 also for float32 probabilities, so that small ones count.
    return (s.uniform(like.shape, torch.float64) < p).to(like.dtype)


DRAWS: dict[Any, Callable[..., Tensor]] = {
    # uniform and normal
    aten.rand.default: lambda s, size, dtype=None: s.uniform(size, _dtype(dtype)),
    aten.rand_like.default: lambda s, like, dtype=None: s.uniform(like.shape, dtype or like.dtype),
    aten.uniform_.default: _uniform,
    aten.uniform.default: _uniform,
    aten.randn.default: lambda s, size, dtype=None: s.normal(size, _dtype(dtype)),
    aten.randn_like.default: lambda s, like, dtype=None: s.normal(like.shape, dtype or like.dtype),
    aten.normal_.default: lambda s, like, mean=0.0, std=1.0: _normal(s, like.shape, like.dtype, mean, std),
    aten.normal_functional.default: lambda s, like, mean=0.0, std=1.0: _normal(
        s, like.shape, like.dtype, mean, std
    ),
    aten.normal.float_float: lambda s, mean, std, size, dtype=None: _normal(
        s, size, _dtype(dtype), mean, std
    ),
    aten.normal.Tensor_float: _normal_around,
    aten.normal.float_Tensor: _normal_around,
    aten.normal.Tensor_Tensor: _normal_around,
    # by inversion
    aten.exponential_.default: _exponential,
    aten.cauchy_.default: _cauchy,
    aten.log_normal_.default: _log_normal,
    aten.geometric_.default: _geometric,
    aten.bernoulli.default: lambda s, p: _bernoulli(s, p, p),
    aten.bernoulli.p: _bernoulli,
    aten.bernoulli.Tensor: _bernoulli,
    aten.bernoulli_.float: _bernoulli,
    aten.bernoulli_.Tensor: _bernoulli,
}
