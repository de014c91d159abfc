"""Lower sums, products and logical reductions, and give all reductions their common form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import index as ix
from ..builder import Builder, operation
from ..elements import Reg, const, is_float
from ..kernel import Kernel
from ..stages import Reduce
from ..tensors import ANYWHERE, SAME_ROW, Index, Tensor, unexpanded

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
    if value is None and len(tensors) == 1:
        smaller = _without_repeats(b, tensors[0], axes)
        if smaller is not None:
            reduced = reduce_axes(b, [smaller], axes, init, combine, None, finish, kinds, cost)
            return [b.expand(each, kept) for each in reduced]

    def read_all(k: Kernel, index: Index) -> list[Reg]:
        return [k.convert(k.read(t, index), reg.kind) for t, reg in zip(tensors, init, strict=True)]

    value = value or read_all
    length = math.prod(shape[axis] for axis in axes)
    if 1 <= length <= INLINE and math.prod(kept) > length and len(kinds) == 1:
        return [_inline(b, tensors, shape, axes, kept, init, combine, value, finish, kinds[0], cost)]
    outputs = [b.new(kept, kind) for kind in kinds]
    b.add(Reduce([(t, True) for t in tensors], outputs, shape, axes, value, init, combine, finish, cost=cost))
    return outputs


def _without_repeats(b: Builder, x: Tensor, axes: Sequence[int]) -> Tensor | None:
    """Return the smaller tensor that ``x`` repeats along axes not reduced, with as many dimensions."""
    source = unexpanded(x)
    shape = (1,) * (len(x.shape) - len(source.shape)) + source.shape
    if source is x or shape == x.shape or any(shape[axis] != x.shape[axis] for axis in axes):
        return None
    return b.reshape(source, shape)


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

    lead = next(axis for axis, size in enumerate(shape) if size != 1)
    repeated = [(t, ANYWHERE if lead in axes else SAME_ROW) for t in tensors]
    result = b.map(kept, kind, repeated, emit, cost * length)
    result.repeat = length
    return result


def as_output(b: Builder, tensor: Tensor) -> Tensor:
    return b.reshape(tensor, b.out().shape)


def wide_kind(kind: str) -> str:
    """Return the kind in which sums are accumulated."""
    return "f64" if is_float(kind) else "i64"


def total(b: Builder, x: Tensor, axes: Sequence[int], kind: str) -> Tensor:
    """Sum over axes into elements of ``kind``."""
    wide = wide_kind(kind)
    # Rows accumulate in memory; there float32 sums stay float32.
    narrow = kind == "f32" and not is_trailing(x.shape, axes)
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


def is_trailing(shape: Sequence[int], axes: Sequence[int]) -> bool:
    reduced = [axis in axes for axis, size in enumerate(shape) if size != 1]
    return True not in reduced or all(reduced[reduced.index(True) :])


@operation("aten.sum.default", "aten.sum.dim_IntList")
def _sum(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    return as_output(b, total(b, b.cast(x, b.out_kind()), axes_of(dim, len(x.shape)), b.out_kind()))


@operation("aten.nansum.default")
def _nansum(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    kind = b.out_kind()
    x = b.cast(x, kind)
    if is_float(kind):
        x = b.pointwise(lambda k, u: k.select(k.isnan(u), const(0.0, kind), u), x, kind=kind, compute=kind)
    return as_output(b, total(b, x, axes_of(dim, len(x.shape)), kind))


@operation("aten.sum_to_size.default")
def _sum_to_size(b: Builder, x: Tensor, size: Sequence[int]) -> Tensor:
    lead = len(x.shape) - len(size)
    axes = [
        axis for axis in range(len(x.shape)) if axis < lead or (size[axis - lead] == 1 and x.shape[axis] != 1)
    ]
    return as_output(b, total(b, x, axes, b.out_kind()) if axes else x)


@operation("aten.mean.default", "aten.mean.dim")
def _mean(b: Builder, x: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    axes = axes_of(dim, len(x.shape))
    count = math.prod(x.shape[axis] for axis in axes)
    kind = b.out_kind()
    summed = total(b, b.cast(x, kind), axes, kind)
    return as_output(b, b.pointwise(lambda k, u: k.div(u, const(count, kind)), summed, kind=kind, cost=4))


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
    return as_output(b, result[0])


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
    return as_output(b, b.cast(result, b.out_kind()))


@operation("aten.count_nonzero.default", "aten.count_nonzero.dim_IntList")
def _count_nonzero(b: Builder, x: Tensor, dim: Any = None) -> Tensor:
    return as_output(b, total(b, b.cast(b.cast(x, "i1"), "i64"), axes_of(dim, len(x.shape)), "i64"))
