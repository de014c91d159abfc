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

from ember.engine.randomness.rejection import binomial, log_gamma, poisson, von_mises
from ember.engine.randomness.streams import Stream

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
    joint = mean + std  # for its shape and dtype
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


def _randint(s: Stream, low: int, high: int, size: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    if high - low <= 1 << 40:
        whole = torch.floor(s.uniform(size) * (high - low)).to(torch.int64)
    else:
        whole = torch.remainder(s.bits(math.prod(size)).reshape(tuple(size)), high - low)
    return (whole + low).to(torch.int64 if dtype is None else dtype)


def _random(s: Stream, like: Tensor, *limits: int | None) -> Tensor:
    low, high = (0, limits[0]) if len(limits) == 1 else limits or (0, None)
    if high is None:
        if like.is_floating_point():
            high = (1 << (53 if like.dtype == torch.float64 else 24)) + 1
        else:
            high = min(torch.iinfo(like.dtype).max + 1, (1 << 63) - 1) if like.dtype != torch.bool else 2
    return _randint(s, low or 0, high, like.shape, like.dtype)


def _multinomial(s: Stream, weights: Tensor, num: int, replacement: bool = False) -> Tensor:
    rows, categories = weights.shape[:-1], weights.shape[-1]
    weights = weights.to(torch.float64)
    if not replacement and num > 1:
        # Without replacement: the order of exponential clocks with the weights as rates.
        clocks = torch.log(-torch.log(s.uniform(weights.shape))) - torch.log(weights)
        return torch.topk(clocks, num, largest=False)[1]
    sums = torch.cumsum(weights, -1)
    marks = s.uniform((*rows, num)) * sums[..., -1:]
    if categories <= _FEW:
        found = (marks.unsqueeze(-1) >= sums.unsqueeze(-2)).sum(-1)
    else:
        found = torch.searchsorted(sums, marks, right=True)
    return torch.clamp(found, max=categories - 1)


def _dropout(s: Stream, x: Tensor, p: float, train: bool | None = True) -> tuple[Tensor, Tensor]:
    if train is False or p == 0.0:
        return x.clone(), torch.ones(x.shape, dtype=torch.bool)
    kept = s.uniform(x.shape) >= p
    return torch.where(kept, x * (1.0 / (1.0 - p) if p < 1.0 else 0.0), 0.0), kept


def _standard_gamma(s: Stream, concentration: Tensor, generator: None = None) -> Tensor:
    smallest = torch.finfo(concentration.dtype).tiny
    sample = torch.exp(log_gamma(s.key, concentration, s.number)).to(concentration.dtype)
    return torch.clamp(sample, min=smallest)


def _dirichlet(s: Stream, concentration: Tensor, generator: None = None) -> Tensor:
    # Normalised as logarithms, so that small concentrations keep their ratios.
    sample = torch.softmax(log_gamma(s.key, concentration, s.number), -1)
    return torch.clamp(sample.to(concentration.dtype), min=torch.finfo(concentration.dtype).tiny)


_FEW = 64  # categories up to which comparing with each of them beats a search

DRAWS: dict[Any, Callable[..., Any]] = {
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
    # integers
    aten.randint.default: lambda s, high, size, dtype=None: _randint(s, 0, high, size, dtype),
    aten.randint.low: _randint,
    aten.randint_like.default: lambda s, like, high, dtype=None: _randint(
        s, 0, high, like.shape, dtype or like.dtype
    ),
    aten.randint_like.low_dtype: lambda s, like, low, high, dtype=None: _randint(
        s, low, high, like.shape, dtype or like.dtype
    ),
    aten.random_.default: _random,
    aten.random_.to: _random,
    getattr(aten.random_, "from"): _random,
    aten.randperm.default: lambda s, n, dtype=None: s.permutation(n).to(dtype or torch.int64),
    aten.multinomial.default: _multinomial,
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
    # by rejection
    aten._standard_gamma.default: _standard_gamma,
    aten._sample_dirichlet.default: _dirichlet,
    aten.poisson.default: lambda s, rate, _=None: poisson(s.key, rate, s.number).to(rate.dtype),
    aten.binomial.default: lambda s, n, p, _=None: binomial(s.key, n, p, s.number).to(n.dtype),
    aten.native_dropout.default: _dropout,
}

# The overloads with a place for a generator, which must be empty.
for _plain, _other in (
    (aten.rand.default, aten.rand.generator),
    (aten.rand_like.default, aten.rand_like.generator),
    (aten.randn.default, aten.randn.generator),
    (aten.randn_like.default, aten.randn_like.generator),
    (aten.randint.default, aten.randint.generator),
    (aten.randint.low, aten.randint.low_generator),
    (aten.randint_like.default, aten.randint_like.generator),
    (aten.randint_like.low_dtype, aten.randint_like.low_generator_dtype),
    (aten.randperm.default, aten.randperm.generator),
):
    DRAWS[_other] = DRAWS[_plain]

# By name: the operation belongs to the family of distributions that draws by it.
NAMED_DRAWS: dict[str, Callable[..., Tensor]] = {
    "ember.von_mises.default": lambda s, kappa: von_mises(s.key, kappa, s.number).to(kappa.dtype),
}
