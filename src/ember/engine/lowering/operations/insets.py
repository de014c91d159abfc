"""Lower operations that put a tensor into a larger one: padding, updates of slices, gradients of views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import conditions
from .. import index as ix
from ..builder import Builder, Number, operation
from ..elements import Reg, const
from ..index import ZERO, Linear
from ..kernel import Kernel
from ..stages import Scatter
from ..tensors import Index, Map, Tensor
from .views import slice_bounds, wrap_dim


def inset(
    b: Builder,
    x: Tensor,
    shape: Sequence[int],
    places: Sequence[tuple[int, int, int]],
    fill: Tensor | Number,
) -> Tensor:
    """Put ``x`` into a larger tensor, at per dimension (first place, step, extent); elsewhere ``fill``."""
    shape = tuple(shape)
    operands = [(x, False)] + ([(fill, True)] if isinstance(fill, Tensor) else [])

    def emit(k: Kernel, index: Index) -> Reg:
        inside: Reg = const(True, "i1")
        inner = []
        for form, (start, step, extent) in zip(index, places, strict=True):
            form = form.shift(-start)
            inside = conditions.conjunction(k, inside, conditions.within(k, form, 0, (extent - 1) * step + 1))
            if step != 1:
                form, rest = k.divisions.divmod(form, step)
                inside = conditions.conjunction(
                    k, inside, conditions.negation(k, conditions.at_least(k, rest, 1))
                )
            inner.append(form if extent != 1 else ZERO)
        outside = k.read(fill, index) if isinstance(fill, Tensor) else const(fill, x.kind)
        if inside.const is False or x.numel == 0:
            return outside
        with k.where(inside):
            value = k.read(x, tuple(inner))
        return k.select(inside, value, outside)

    return b.map(shape, x.kind, operands, emit, 3)


@operation("aten.constant_pad_nd.default")
def _constant_pad(b: Builder, x: Tensor, pad: Sequence[int], value: Number = 0) -> Tensor:
    places = [(0, 1, size) for size in x.shape]
    for position in range(len(pad) // 2):
        dim = len(x.shape) - 1 - position
        places[dim] = (pad[2 * position], 1, x.shape[dim])
    return inset(b, x, b.out().shape, places, value)


@operation("aten.slice_backward.default")
def _slice_backward(
    b: Builder, grad: Tensor, input_sizes: Sequence[int], dim: int, start: int, end: int, step: int
) -> Tensor:
    return inset_slice(b, grad, input_sizes, dim, start, end, step, 0)


def inset_slice(
    b: Builder,
    x: Tensor,
    shape: Sequence[int],
    dim: int,
    start: int | None,
    end: int | None,
    step: int,
    fill: Tensor | Number,
) -> Tensor:
    dim = wrap_dim(dim, len(shape))
    first, _ = slice_bounds(shape[dim], start, end)
    places = [(first, step, x.shape[d]) if d == dim else (0, 1, size) for d, size in enumerate(shape)]
    return inset(b, x, shape, places, fill)


@operation("aten.select_backward.default")
def _select_backward(b: Builder, grad: Tensor, input_sizes: Sequence[int], dim: int, index: int) -> Tensor:
    dim = wrap_dim(dim, len(input_sizes))
    wide = b.reshape(grad, (*grad.shape[:dim], 1, *grad.shape[dim:]))
    places = [(0, 1, size) for size in input_sizes]
    places[dim] = (index + input_sizes[dim] if index < 0 else index, 1, 1)
    return inset(b, wide, input_sizes, places, 0)


@operation("aten.unfold_backward.default")
def _unfold_backward(
    b: Builder, grad: Tensor, input_sizes: Sequence[int], dim: int, size: int, step: int
) -> Tensor:
    if not input_sizes:
        return b.reshape(grad, ())
    axis = wrap_dim(dim, len(input_sizes))
    output = b.new(input_sizes, grad.kind)

    def place(k: Kernel, index: Index) -> tuple[Index, Reg, Reg | None]:
        inner = ix.add(index[axis].scale(step), index[-1])
        return (*index[:axis], inner, *index[axis + 1 : -1]), k.read(grad, index), None

    base = b.full(input_sizes, 0, grad.kind)
    b.add(Scatter(base, output, grad.shape, [(grad, True)], place, lambda k, old, new: k.add(old, new)))
    return output


@operation("aten.slice_scatter.default")
def _slice_scatter(
    b: Builder,
    x: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    dim = wrap_dim(dim, len(x.shape))
    first, _ = slice_bounds(x.shape[dim], start, end)
    src = b.cast(src, x.kind)
    if updates_in_place(x):

        def place(k: Kernel, index: Index) -> tuple[Index, Reg, Reg | None]:
            target = (*index[:dim], index[dim].scale(step).shift(first), *index[dim + 1 :])
            return target, k.read(src, index), None

        return update(b, x, src, place)
    return inset_slice(b, src, x.shape, dim, start, end, step, x)


@operation("aten.select_scatter.default")
def _select_scatter(b: Builder, x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    dim = wrap_dim(dim, len(x.shape))
    index = index + x.shape[dim] if index < 0 else index
    src = b.cast(src, x.kind)
    wide = b.reshape(src, (*src.shape[:dim], 1, *src.shape[dim:]))
    if updates_in_place(x):

        def place(k: Kernel, at: Index) -> tuple[Index, Reg, Reg | None]:
            return (*at[:dim], Linear(index), *at[dim + 1 :]), k.read(wide, at), None

        return update(b, x, wide, place)
    places = [(0, 1, size) for size in x.shape]
    places[dim] = (index, 1, 1)
    return inset(b, wide, x.shape, places, x)


def updates_in_place(x: Tensor) -> bool:
    """Say whether an update of ``x`` is better done to its memory than as a new expression."""
    return not isinstance(x, Map) and x.storage is None and x.constant is None and x.numel > 1


def update(b: Builder, base: Tensor, source: Tensor, place: Any, combine: Any = None) -> Tensor:
    """Make ``base`` with the elements of ``source`` written to, or combined with, computed places."""
    output = b.new(base.shape, base.kind)
    b.add(Scatter(base, output, source.shape, [(source, True)], place, combine))
    return output


@operation("aten.diagonal_backward.default")
def _diagonal_backward(
    b: Builder, grad: Tensor, input_sizes: Sequence[int], offset: int, dim1: int, dim2: int
) -> Tensor:
    return _onto_diagonal(b, grad, input_sizes, offset, dim1, dim2, 0)


def _onto_diagonal(
    b: Builder,
    x: Tensor,
    shape: Sequence[int],
    offset: int,
    dim1: int,
    dim2: int,
    fill: Tensor | Number,
) -> Tensor:
    rank = len(shape)
    dim1, dim2 = wrap_dim(dim1, rank), wrap_dim(dim2, rank)
    operands = [(x, False)] + ([(fill, True)] if isinstance(fill, Tensor) else [])

    def emit(k: Kernel, index: Index) -> Reg:
        row, column = index[dim1].shift(-max(-offset, 0)), index[dim2].shift(-max(offset, 0))
        outside = k.read(fill, index) if isinstance(fill, Tensor) else const(fill, x.kind)
        difference = ix.add(row, column.scale(-1))
        inside = conditions.within(k, difference, 0, 1)
        inside = conditions.conjunction(k, inside, conditions.within(k, row, 0, x.shape[-1]))
        if inside.const is False or x.numel == 0:
            return outside
        rest = tuple(form for d, form in enumerate(index) if d not in (dim1, dim2))
        with k.where(inside):
            value = k.read(x, (*rest, row if x.shape[-1] != 1 else ZERO))
        return k.select(inside, value, outside)

    return b.map(shape, x.kind, operands, emit, 4)


@operation("aten.diagonal_scatter.default")
def _diagonal_scatter(
    b: Builder, x: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    return _onto_diagonal(b, b.cast(src, x.kind), x.shape, offset, dim1, dim2, x)


@operation("aten.diag_embed.default")
def _diag_embed(b: Builder, x: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    return _onto_diagonal(b, x, b.out().shape, offset, dim1, dim2, 0)


@operation("aten.tril.default", "aten.triu.default")
def _triangle(b: Builder, x: Tensor, diagonal: int = 0) -> Tensor:
    return triangle(b, x, diagonal, lower=b.current.op.startswith("aten.tril"))


def triangle(b: Builder, x: Tensor, diagonal: int = 0, lower: bool = True) -> Tensor:
    """Set the elements above or below a diagonal to zero."""

    def emit(k: Kernel, index: Index) -> Reg:
        difference = ix.add(index[-1], index[-2].scale(-1))
        above = conditions.at_least(k, difference, diagonal + 1 if lower else diagonal)
        keep = conditions.negation(k, above) if lower else above
        if keep.const is False:
            return const(0, x.kind)
        return k.select(keep, k.read(x, index), const(0, x.kind))

    return b.map(x.shape, x.kind, [(x, True)], emit, 2)
