"""Lower reductions and cumulative operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import index as ix
from .builder import Builder, Number, operation
from .elements import BITS, Reg, const, is_float
from .index import ZERO
from .kernel import Kernel
from .pointwise import elementary, maximum, minimum
from .tensors import Index, Prefix, Reduce, Tensor, squeeze

INLINE = 8  # sums over at most this many elements are written out inside the consumer's loop


def axes_of(dim: Any, rank: int) -> list[int]:
    """Normalise a ``dim`` argument; None and an empty list mean all."""
    if dim is None or dim == []:
        return list(range(rank))
    dims = dim if isinstance(dim, (list, tuple)) else [dim]
    return sorted({each + max(rank, 1) if each < 0 else each for each in dims} & set(range(rank)))


def reduce_axes(
    b: Builder,
    tensors: Sequence[Tensor],
    axes: Sequence[int],
    init: Sequence[Reg],
    combine: Any,
    value: Any = None,
    finish: Any = None,
    kinds: Sequence[str] | None = None,
    cost: int = 2,
) -> list[Tensor]:
    """Reduce tensors of one shape over axes; the results lack these axes."""
    shape = tensors[0].shape
    kept = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    kinds = kinds or [reg.kind for reg in init]

    def read_all(k: Kernel, index: Index) -> list[Reg]:
        return [k.convert(k.read(t, index), reg.kind) for t, reg in zip(tensors, init, strict=True)]

    value = value or read_all
    length = math.prod(shape[axis] for axis in axes)
    if 1 <= length <= INLINE and math.prod(kept) > length and len(kinds) == 1:
        return [_inline(b, tensors, shape, axes, kept, init, combine, value, finish, kinds[0], cost)]
    outputs = [b.new(kept, kind) for kind in kinds]
    b.add(Reduce([(t, True) for t in tensors], outputs, shape, axes, value, init, combine, finish, cost=cost))
    return outputs


def _inline(
    b: Builder,
    tensors: Sequence[Tensor],
    shape: Sequence[int],
    axes: Sequence[int],
    kept: Sequence[int],
    init: Sequence[Reg],
    combine: Any,
    value: Any,
    finish: Any,
    kind: str,
    cost: int,
) -> Tensor:
    """Write a short reduction out, so that the dimensions kept run in lanes."""
    extents = [shape[axis] for axis in axes]
    length = math.prod(extents)

    def emit(k: Kernel, index: Index) -> Reg:
        total: list[Reg] | None = None
        for step in range(length):
            inner = dict(zip(axes, k.divisions.unravel(ix.Linear(step), extents), strict=True))
            rest = iter(index)
            place = tuple(inner[axis] if axis in inner else next(rest) for axis in range(len(shape)))
            values = value(k, place)
            total = values if total is None else combine(k, total, values)
        result = total if total is not None else list(init)
        return k.convert((finish(k, result) if finish else result)[0], kind)

    repeated = [(t, False) for t in tensors]
    result = b.map(kept, kind, repeated, emit, cost * length)
    result.repeat = length
    return result


def _keep(b: Builder, tensor: Tensor) -> Tensor:
    return b.reshape(tensor, b.out().shape)


def _wide(kind: str) -> str:
    """Return the kind in which sums are accumulated."""
    return "f64" if is_float(kind) else "i64"


def total(b: Builder, x: Tensor, axes: Sequence[int], kind: str) -> Tensor:
    """Sum over axes into elements of ``kind``."""
    wide = _wide(kind)
    # Rows accumulate in memory; there float32 sums stay float32.
    narrow = kind == "f32" and not _trailing(x.shape, axes)
    accumulator = kind if narrow else wide
    finish = None if accumulator == kind else (lambda k, regs: [k.convert(regs[0], kind)])
    return reduce_axes(
        b,
        [x],
        axes,
        [const(0, accumulator)],
        lambda k, a, v: [k.add(a[0], v[0])],
        finish=finish,
        kinds=[kind],
    )[0]


def _trailing(shape: Sequence[int], axes: Sequence[int]) -> bool:
    reduced = [axis in axes for axis, size in enumerate(shape) if size != 1]
    return True not in reduced or all(reduced[reduced.index(True) :])


@operation("aten.sum.default", "aten.sum.dim_IntList")
def _sum(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    return _keep(b, total(b, b.cast(x, b.out_kind()), axes_of(dim, len(x.shape)), b.out_kind()))


@operation("aten.nansum.default")
def _nansum(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    kind = b.out_kind()
    x = b.cast(x, kind)
    if is_float(kind):
        x = b.pointwise(lambda k, u: k.select(k.isnan(u), const(0.0, kind), u), x, kind=kind, compute=kind)
    return _keep(b, total(b, x, axes_of(dim, len(x.shape)), kind))


@operation("aten.sum_to_size.default")
def _sum_to_size(b: Builder, x: Tensor, size: Sequence[int]) -> Tensor:
    lead = len(x.shape) - len(size)
    axes = [
        axis for axis in range(len(x.shape)) if axis < lead or (size[axis - lead] == 1 and x.shape[axis] != 1)
    ]
    return _keep(b, total(b, x, axes, b.out_kind()) if axes else x)


@operation("aten.mean.default", "aten.mean.dim")
def _mean(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    axes = axes_of(dim, len(x.shape))
    count = math.prod(x.shape[axis] for axis in axes)
    kind = b.out_kind()
    summed = total(b, b.cast(x, kind), axes, kind)
    return _keep(b, b.pointwise(lambda k, u: k.div(u, const(count, kind)), summed, kind=kind, cost=4))


def _moments(b: Builder, x: Tensor, dim: Any, correction: Number, kind: str) -> tuple[Tensor, Tensor]:
    """Return variance and mean, without the reduced axes, in two passes."""
    axes = axes_of(dim, len(x.shape))
    count = math.prod(x.shape[axis] for axis in axes)
    summed = total(b, x, axes, kind)
    mean = b.pointwise(lambda k, u: k.div(u, const(count, kind)), summed, kind=kind, compute=kind, cost=4)
    spread_shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    wide = b.reshape(mean, spread_shape)

    def square(k: Kernel, u: Reg, m: Reg) -> Reg:
        d = k.sub(u, m)
        return k.mul(d, d)

    squares = b.pointwise(square, x, wide, kind=kind, compute=kind, cost=2, shape=x.shape)
    summed_squares = total(b, squares, axes, kind)
    freedom = max(count - correction, 0)
    variance = b.pointwise(
        lambda k, u: k.div(u, const(float(freedom), kind)), summed_squares, kind=kind, compute=kind, cost=4
    )
    return variance, mean


def _variance(b: Builder, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    x, *rest = args
    if "correction" in kwargs or b.current.op.endswith("correction"):
        dim = rest[0] if rest else kwargs.get("dim")
        correction = kwargs.get("correction")
        correction = 1 if correction is None else correction
    elif b.current.op.endswith(".default"):
        dim, correction = None, 1 if (rest[0] if rest else kwargs.get("unbiased", True)) else 0
    else:
        dim = rest[0]
        correction = 1 if (rest[1] if len(rest) > 1 else kwargs.get("unbiased", True)) else 0
    return _moments(b, x, dim, correction, b.out_kind())


@operation("aten.var.default", "aten.var.dim", "aten.var.correction")
def _var(b: Builder, *args: Any, **kwargs: Any) -> Tensor:
    return _keep(b, _variance(b, args, kwargs)[0])


@operation("aten.std.default", "aten.std.dim", "aten.std.correction")
def _std(b: Builder, *args: Any, **kwargs: Any) -> Tensor:
    variance = _variance(b, args, kwargs)[0]
    return _keep(b, b.pointwise(lambda k, u: k.unary("sqrt", u), variance, cost=5))


@operation("aten.var_mean.default", "aten.var_mean.dim", "aten.var_mean.correction")
def _var_mean(b: Builder, *args: Any, **kwargs: Any) -> list[Tensor]:
    shape = b.out().shape
    return [b.reshape(each, shape) for each in _variance(b, args, kwargs)]


@operation("aten.std_mean.default", "aten.std_mean.dim", "aten.std_mean.correction")
def _std_mean(b: Builder, *args: Any, **kwargs: Any) -> list[Tensor]:
    variance, mean = _variance(b, args, kwargs)
    deviation = b.pointwise(lambda k, u: k.unary("sqrt", u), variance, cost=5, kind=b.out_kind())
    return [b.reshape(each, b.out().shape) for each in (deviation, mean)]


@operation("aten.prod.default", "aten.prod.dim_int")
def _prod(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    kind = b.out_kind()
    result = reduce_axes(
        b,
        [b.cast(x, kind)],
        axes_of(dim, len(x.shape)),
        [const(1, kind)],
        lambda k, a, v: [k.mul(a[0], v[0])],
    )
    return _keep(b, result[0])


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
    return _keep(b, extreme(b, x, axes_of(dim, len(x.shape)), True))


@operation("aten.amin.default", "aten.min.default")
def _amin(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return _keep(b, extreme(b, x, axes_of(dim, len(x.shape)), False))


@operation("aten.aminmax.default")
def _aminmax(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False) -> list[Tensor]:
    axes = axes_of(dim, len(x.shape))
    return [_keep(b, extreme(b, x, axes, largest)) for largest in (False, True)]


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
    return _keep(b, extreme_with_place(b, x, axes_of(dim, len(x.shape)), largest)[1])


@operation("aten.any.default", "aten.any.dim", "aten.any.dims")
def _any(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return _logical(b, x, dim, "or", False)


@operation("aten.all.default", "aten.all.dim", "aten.all.dims")
def _all(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return _logical(b, x, dim, "and", True)


def _logical(b: Builder, x: Tensor, dim: Any, opcode: str, identity: bool) -> Tensor:
    truth = b.cast(x, "i1")
    result = reduce_axes(
        b,
        [truth],
        axes_of(dim, len(x.shape)),
        [const(identity, "i1")],
        lambda k, a, v: [k.binary(opcode, a[0], v[0])],
    )[0]
    return _keep(b, b.cast(result, b.out_kind()))


@operation("aten.count_nonzero.default", "aten.count_nonzero.dim_IntList")
def _count_nonzero(b: Builder, x: Tensor, dim: Any = None) -> Tensor:
    return _keep(b, total(b, b.cast(b.cast(x, "i1"), "i64"), axes_of(dim, len(x.shape)), "i64"))


def logsumexp(b: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Stable log of the sum of exponentials; the result lacks the axes."""
    top = extreme(b, x, axes, True)
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    inf = const(math.inf, x.kind)

    def finite(k: Kernel, u: Reg) -> Reg:
        return k.select(k.compare("eq", k.unary("fabs", u), inf), const(0.0, x.kind), u)

    shift = b.pointwise(finite, top, kind=x.kind, compute=x.kind, cost=2)
    exp, log = elementary("exp"), elementary("log")
    shifted = b.pointwise(
        lambda k, u, m: exp(k, k.sub(u, m)),
        x,
        b.reshape(shift, kept),
        kind=x.kind,
        compute=x.kind,
        shape=x.shape,
        cost=26,
    )
    summed = total(b, shifted, axes, x.kind)
    return b.pointwise(
        lambda k, s, m: k.add(log(k, s), m), summed, shift, kind=x.kind, compute=x.kind, cost=31
    )


@operation("aten.logsumexp.default", "aten.special_logsumexp.default")
def _logsumexp(b: Builder, x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    return _keep(b, logsumexp(b, b.cast(x, b.out_kind()), axes_of(dim, len(x.shape))))


@operation("aten._softmax.default", "aten.softmax.int", "aten._log_softmax.default", "aten.log_softmax.int")
def _softmax(b: Builder, x: Tensor, dim: int, *args: Any, **kwargs: Any) -> Tensor:
    kind = b.out_kind()
    x = b.cast(x, kind)
    axes = axes_of(dim, len(x.shape))
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    top = b.reshape(extreme(b, x, axes, True), kept)
    exp, log = elementary("exp"), elementary("log")
    centred = b.pointwise(lambda k, u, m: k.sub(u, m), x, top, kind=kind, compute=kind, shape=x.shape)
    weights = b.pointwise(exp, centred, kind=kind, compute=kind, cost=25)
    summed = b.reshape(total(b, weights, axes, kind), kept)
    if "log_softmax" in b.current.op:
        logged = b.pointwise(log, summed, kind=kind, compute=kind, cost=30)
        return b.pointwise(
            lambda k, u, s: k.sub(u, s), centred, logged, kind=kind, compute=kind, shape=x.shape
        )
    return b.pointwise(
        lambda k, u, s: k.div(u, s), weights, summed, kind=kind, compute=kind, shape=x.shape, cost=4
    )


@operation("aten._softmax_backward_data.default")
def _softmax_backward(b: Builder, grad: Tensor, output: Tensor, dim: int, input_dtype: Any) -> Tensor:
    kind = b.out_kind()
    axes = axes_of(dim, len(output.shape))
    kept = [1 if axis in axes else size for axis, size in enumerate(output.shape)]
    products = b.pointwise(lambda k, g, o: k.mul(g, o), grad, output, kind=kind, compute=kind)
    summed = b.reshape(total(b, products, axes, kind), kept)
    return b.pointwise(
        lambda k, p, o, s: k.sub(p, k.mul(o, s)), products, output, summed, kind=kind, compute=kind, cost=2
    )


@operation("aten._log_softmax_backward_data.default")
def _log_softmax_backward(b: Builder, grad: Tensor, output: Tensor, dim: int, input_dtype: Any) -> Tensor:
    kind = b.out_kind()
    axes = axes_of(dim, len(output.shape))
    kept = [1 if axis in axes else size for axis, size in enumerate(output.shape)]
    summed = b.reshape(total(b, grad, axes, kind), kept)
    exp = elementary("exp")
    return b.pointwise(
        lambda k, g, o, s: k.sub(g, k.mul(exp(k, o), s)),
        grad,
        output,
        summed,
        kind=kind,
        compute=kind,
        cost=27,
    )


# Cumulative -----------------------------------------------------------------------------------------------
def prefix(
    b: Builder, x: Tensor, dim: int, init: Sequence[Reg], combine: Any, value: Any = None, kinds: Any = None
) -> list[Tensor]:
    """Combine along one axis, keeping every step."""
    if not x.shape:
        flat = prefix(b, b.reshape(x, (1,)), 0, init, combine, value, kinds)
        return [b.reshape(each, ()) for each in flat]
    axis = dim + len(x.shape) if dim < 0 else dim
    outputs = [b.new(x.shape, kind) for kind in (kinds or [reg.kind for reg in init])]
    b.add(
        Prefix(
            [(x, False)],
            outputs,
            x.shape,
            axis,
            value or (lambda k, index: [k.convert(k.read(x, index), init[0].kind)]),
            init,
            combine,
        )
    )
    return outputs


@operation("aten.cumsum.default")
def _cumsum(b: Builder, x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    kind = b.out_kind()
    x = b.cast(x, kind)
    return prefix(b, x, dim, [const(0, kind)], lambda k, a, v: [k.add(a[0], v[0])])[0]


@operation("aten.cumprod.default")
def _cumprod(b: Builder, x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    kind = b.out_kind()
    x = b.cast(x, kind)
    return prefix(b, x, dim, [const(1, kind)], lambda k, a, v: [k.mul(a[0], v[0])])[0]


@operation("aten.logcumsumexp.default")
def _logcumsumexp(b: Builder, x: Tensor, dim: int) -> Tensor:
    exp, log1p = elementary("exp"), elementary("log1p")

    def combine(k: Kernel, a: list[Reg], v: list[Reg]) -> list[Reg]:
        top, low = maximum(k, a[0], v[0]), minimum(k, a[0], v[0])
        same = k.compare("eq", top, low)
        gap = k.select(same, const(0.0, x.kind), k.sub(low, top))
        infinite = k.compare("eq", k.unary("fabs", top), const(math.inf, x.kind))
        joined = k.add(top, log1p(k, exp(k, gap)))
        return [k.select(infinite, top, joined)]

    return prefix(b, x, dim, [const(-math.inf, x.kind)], combine)[0]


def _register_running_extreme(name: str, largest: bool) -> None:
    @operation(f"aten.{name}.default")
    def lower(b: Builder, x: Tensor, dim: int) -> list[Tensor]:
        axis = dim + max(len(x.shape), 1) if dim < 0 else dim
        if not x.shape:
            return [x, b.full((), 0, "i64")]

        def value(k: Kernel, index: Index) -> list[Reg]:
            return [k.read(x, index), k.index_value(index[axis])]

        def combine(k: Kernel, a: list[Reg], v: list[Reg]) -> list[Reg]:
            take = k.compare("ge" if largest else "le", v[0], a[0])
            if is_float(x.kind):
                take = k.binary("or", k.binary("and", take, k.invert(k.isnan(a[0]))), k.isnan(v[0]))
            return [k.select(take, v[0], a[0]), k.select(take, v[1], a[1])]

        init = [const(lowest(x.kind) if largest else highest(x.kind), x.kind), const(0, "i64")]
        return prefix(b, x, axis, init, combine, value, [x.kind, "i64"])


_register_running_extreme("cummax", True)
_register_running_extreme("cummin", False)

__all__ = ["ZERO", "axes_of", "extreme", "logsumexp", "prefix", "reduce_axes", "squeeze", "total"]
