"""Lower maxima and minima over axes, with and without their places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import index as ix
from ..builder import Builder, Number, operation
from ..elements import BITS, Reg, const, is_float
from ..kernel import Kernel
from ..tensors import Index, Tensor
from .reductions import as_output, axes_of, reduce_axes
from .selection import maximum, minimum


def lowest(kind: str) -> Number:
    """Return the identity of max."""
    if is_float(kind):
        return -math.inf
    return 0 if kind in ("u8", "i1") else -(1 << (BITS[kind] - 1))


def highest(kind: str) -> Number:
    """Return the identity of min."""
    if is_float(kind):
        return math.inf
    return {"u8": 255, "i1": 1}.get(kind, (1 << (BITS[kind] - 1)) - 1)


def extreme(b: Builder, x: Tensor, axes: Sequence[int], largest: bool) -> Tensor:
    """Reduce by max or min; NaN wins."""
    pick = maximum if largest else minimum
    init = const(lowest(x.kind) if largest else highest(x.kind), x.kind)
    return reduce_axes(b, [x], axes, [init], lambda k, a, v: [pick(k, a[0], v[0])], cost=3)[0]


@operation("aten.amax.default", "aten.max.default")
def _amax(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return as_output(b, extreme(b, x, axes_of(dim, len(x.shape)), True))


@operation("aten.amin.default", "aten.min.default")
def _amin(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return as_output(b, extreme(b, x, axes_of(dim, len(x.shape)), False))


@operation("aten.aminmax.default")
def _aminmax(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False) -> list[Tensor]:
    axes = axes_of(dim, len(x.shape))
    return [as_output(b, extreme(b, x, axes, largest)) for largest in (False, True)]


def extreme_with_place(b: Builder, x: Tensor, axes: Sequence[int], largest: bool) -> list[Tensor]:
    """Return the extreme element over axes and the position of the first of its kind."""
    extents = [x.shape[axis] for axis in axes]

    def value(k: Kernel, index: Index) -> list[Reg]:
        flat = ix.ravel([index[axis] for axis in axes], extents)
        return [k.read(x, index), k.index_value(flat)]

    def combine(k: Kernel, a: list[Reg], v: list[Reg]) -> list[Reg]:
        better = k.compare("gt" if largest else "lt", v[0], a[0])
        same = k.compare("eq", v[0], a[0])
        if is_float(x.kind):
            both = k.binary("and", k.isnan(v[0]), k.isnan(a[0]))
            same = k.binary("or", same, both)
            wins = k.binary("and", k.isnan(v[0]), k.invert(k.isnan(a[0])))
            better = k.binary("or", better, wins)
        earlier = k.compare("lt", v[1], a[1])
        take = k.binary("or", better, k.binary("and", same, earlier))
        return [k.select(take, v[0], a[0]), k.select(take, v[1], a[1])]

    init = [const(lowest(x.kind) if largest else highest(x.kind), x.kind), const((1 << 63) - 1, "i64")]
    return reduce_axes(b, [x], axes, init, combine, value=value, kinds=[x.kind, "i64"], cost=6)


@operation("aten.max.dim")
def _max_dim(b: Builder, x: Tensor, dim: int, keepdim: bool = False) -> list[Tensor]:
    return _with_place(b, x, dim, True)


@operation("aten.min.dim")
def _min_dim(b: Builder, x: Tensor, dim: int, keepdim: bool = False) -> list[Tensor]:
    return _with_place(b, x, dim, False)


def _with_place(b: Builder, x: Tensor, dim: int, largest: bool) -> list[Tensor]:
    results = extreme_with_place(b, x, axes_of(dim, len(x.shape)), largest)
    if not x.shape:
        results[1] = b.full((), 0, "i64")
    return [b.reshape(each, b.out().shape) for each in results]


@operation("aten.argmax.default")
def _argmax(b: Builder, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return _arg(b, x, dim, True)


@operation("aten.argmin.default")
def _argmin(b: Builder, x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return _arg(b, x, dim, False)


def _arg(b: Builder, x: Tensor, dim: int | None, largest: bool) -> Tensor:
    if not x.shape:
        return b.full((), 0, "i64")
    return as_output(b, extreme_with_place(b, x, axes_of(dim, len(x.shape)), largest)[1])
