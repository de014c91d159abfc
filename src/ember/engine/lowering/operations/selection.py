"""Lower choices between elements: where, clamp, maximum and their kin."""

from __future__ import annotations

from collections.abc import Callable

from ..builder import Builder, Operand, operation
from ..elements import Reg, is_float
from ..kernel import Kernel
from ..tensors import Map, Tensor, broadcast


# Selection ------------------------------------------------------------------------------------------------
@operation("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def _where(b: Builder, condition: Tensor, x: Operand, y: Operand) -> Map:
    kind = b.out_kind()

    def apply(k: Kernel, c: Reg, u: Reg, v: Reg) -> Reg:
        return k.select(k.convert(c, "i1"), k.convert(u, kind), k.convert(v, kind))

    x = b.full((), x, kind) if not isinstance(x, Tensor) else b.cast(x, kind)
    y = b.full((), y, kind) if not isinstance(y, Tensor) else b.cast(y, kind)
    return mixed(b, apply, condition, x, y)


def mixed(
    b: Builder, function: Callable[..., Reg], *operands: Tensor, cost: int = 1, kind: str | None = None
) -> Map:
    """Apply a function to elements of different kinds, with broadcasting."""
    shape = broadcast(*(op.shape for op in operands))
    return b.elementwise(function, operands, kind or b.out_kind(), shape, cost)


@operation("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def _masked_fill(b: Builder, x: Tensor, mask: Tensor, value: Operand) -> Map:
    filler = b.full((), value, x.kind) if not isinstance(value, Tensor) else b.cast(value, x.kind)
    return mixed(b, lambda k, c, u, v: k.select(c, v, u), mask, x, filler)


def _extreme(k: Kernel, a: Reg, c: Reg, which: str) -> Reg:
    """Return the larger ("gt") or smaller ("lt") of two; NaN wins."""
    if not is_float(a.kind):
        return k.select(k.compare(which, a, c), a, c)
    chosen = k.select(k.compare(which, a, c), a, c)
    return k.select(k.isnan(a), a, chosen)


def maximum(k: Kernel, a: Reg, c: Reg) -> Reg:
    """The larger of two, NaN if either is."""
    return _extreme(k, a, c, "gt")


def minimum(k: Kernel, a: Reg, c: Reg) -> Reg:
    """The smaller of two, NaN if either is."""
    return _extreme(k, a, c, "lt")


@operation("aten.maximum.default", "aten.max.other")
def _maximum(b: Builder, x: Tensor, y: Tensor) -> Map:
    return b.pointwise(maximum, x, y, cost=3, compute=b.out_kind())


@operation("aten.minimum.default", "aten.min.other")
def _minimum(b: Builder, x: Tensor, y: Tensor) -> Map:
    return b.pointwise(minimum, x, y, cost=3, compute=b.out_kind())


@operation("aten.fmax.default")
def _fmax(b: Builder, x: Tensor, y: Tensor) -> Map:
    return b.pointwise(lambda k, u, v: _ignore_nan(k, u, v, "gt"), x, y, cost=3, compute=b.out_kind())


@operation("aten.fmin.default")
def _fmin(b: Builder, x: Tensor, y: Tensor) -> Map:
    return b.pointwise(lambda k, u, v: _ignore_nan(k, u, v, "lt"), x, y, cost=3, compute=b.out_kind())


def _ignore_nan(k: Kernel, a: Reg, c: Reg, which: str) -> Reg:
    if not is_float(a.kind):
        return k.select(k.compare(which, a, c), a, c)
    take_a = k.binary("or", k.compare(which, a, c), k.isnan(c))
    return k.select(take_a, a, c)


def clip(k: Kernel, x: Reg, low: Reg | None, high: Reg | None) -> Reg:
    if low is not None:
        x = _extreme_bound(k, x, low, "lt")
    if high is not None:
        x = _extreme_bound(k, x, high, "gt")
    return x


def _extreme_bound(k: Kernel, x: Reg, bound: Reg, which: str) -> Reg:
    x = k.select(k.compare(which, x, bound), bound, x)
    if is_float(bound.kind) and bound.const is None:
        x = k.select(k.isnan(bound), bound, x)
    return x


@operation("aten.clamp.default", "aten.clamp.Tensor", "aten.clamp_min.default", "aten.clamp_min.Tensor")
def _clamp(b: Builder, x: Tensor, min: Operand | None = None, max: Operand | None = None) -> Map:
    bounds = [each for each in (min, max) if each is not None]
    has_low, has_high = min is not None, max is not None

    def apply(k: Kernel, u: Reg, *limits: Reg) -> Reg:
        rest = list(limits)
        low = rest.pop(0) if has_low else None
        high = rest.pop(0) if has_high else None
        return clip(k, u, low, high)

    return b.pointwise(apply, x, *bounds, cost=2, compute=b.out_kind())


@operation("aten.clamp_max.default", "aten.clamp_max.Tensor")
def _clamp_max(b: Builder, x: Tensor, max: Operand) -> Map:
    return _clamp(b, x, None, max)


@operation("aten.copysign.Tensor", "aten.copysign.Scalar")
def _copysign(b: Builder, x: Operand, y: Operand) -> Map:
    def apply(k: Kernel, u: Reg, v: Reg) -> Reg:
        lanes, texts = k.align(u, v)
        return k.intrinsic("copysign", u.kind, lanes, texts)

    return b.pointwise(apply, x, y, compute=b.out_kind())
