"""Lower ATen operations that rearrange elements: views, joins, padding, and the backward forms of views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import index as ix
from .builder import Builder, Number, broadcast_index, operation
from .elements import Reg, const
from .index import ZERO, Linear
from .kernel import Kernel
from .tensors import ANYWHERE, SAME_ROW, Index, Map, Scatter, Tensor, broadcast_level


def _wrap(dim: int, rank: int) -> int:
    return dim + max(rank, 1) if dim < 0 else dim


@operation(
    "aten.view.default",
    "aten._unsafe_view.default",
    "aten.reshape.default",
    "aten._reshape_alias.default",
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.unsqueeze.default",
    "aten.flatten.using_ints",
    "aten.unflatten.int",
    "aten.view_as.default",
)
def _view(b: Builder, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return b.reshape(x, b.out().shape)


@operation("aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default")
def _expand(b: Builder, x: Tensor, *args: Any, implicit: bool = False) -> Tensor:
    return expand(b, x, b.out().shape)


def expand(b: Builder, x: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat elements along new dimensions and those of extent 1."""
    shape = tuple(shape)
    if shape == x.shape:
        return x
    level = broadcast_level(x.shape, shape)
    return b.map(shape, x.kind, [(x, level)], lambda k, index: k.read(x, broadcast_index(x, index, shape)), 0)


def permute(b: Builder, x: Tensor, dims: Sequence[int]) -> Tensor:
    """Reorder dimensions."""
    dims = [_wrap(dim, len(x.shape)) for dim in dims]
    kept = [dim for dim in dims if x.shape[dim] != 1]
    if kept == sorted(kept):
        return b.reshape(x, [x.shape[dim] for dim in dims])

    def place(index: Index) -> Index:
        out = [ZERO] * len(dims)
        for form, dim in zip(index, dims, strict=True):
            out[dim] = form
        return tuple(out)

    result = b.view(x, [x.shape[dim] for dim in dims], place)
    rank = len(dims)
    if dims == [*range(rank - 2), rank - 1, rank - 2]:
        result.transposed = x
    return result


@operation("aten.permute.default")
def _permute(b: Builder, x: Tensor, dims: Sequence[int]) -> Tensor:
    return permute(b, x, dims)


@operation("aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default")
def transpose(b: Builder, x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Exchange two dimensions."""
    rank = len(x.shape)
    if rank == 0:
        return x
    dims = list(range(rank))
    dim0, dim1 = _wrap(dim0, rank), _wrap(dim1, rank)
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permute(b, x, dims)


@operation(
    "aten.t.default", "aten.numpy_T.default", "aten.mT.default", "aten.adjoint.default", "aten.mH.default"
)
def _t(b: Builder, x: Tensor) -> Tensor:
    return transpose(b, x, -1, -2) if len(x.shape) >= 2 else x


@operation("aten.movedim.intlist", "aten.movedim.int")
def _movedim(b: Builder, x: Tensor, source: Any, destination: Any) -> Tensor:
    rank = len(x.shape)
    sources = [_wrap(d, rank) for d in (source if isinstance(source, list) else [source])]
    targets = [_wrap(d, rank) for d in (destination if isinstance(destination, list) else [destination])]
    dims: list[int | None] = [None] * rank
    for s, t in zip(sources, targets, strict=True):
        dims[t] = s
    rest = iter(d for d in range(rank) if d not in sources)
    return permute(b, x, [next(rest) if d is None else d for d in dims])


def select(b: Builder, x: Tensor, dim: int, position: int) -> Tensor:
    """Take one slice and drop its dimension."""
    dim = _wrap(dim, len(x.shape))
    position = position + x.shape[dim] if position < 0 else position
    fixed = Linear(position)
    shape = x.shape[:dim] + x.shape[dim + 1 :]
    if x.shape[dim] == 1:
        return b.reshape(x, shape)
    return b.view(x, shape, lambda index: (*index[:dim], fixed, *index[dim:]), _row_level(x, dim))


def _row_level(x: Tensor, dim: int) -> int:
    """Say where a tensor is read if only the coordinate along ``dim`` is changed."""
    return SAME_ROW if any(size != 1 for size in x.shape[:dim]) else ANYWHERE


@operation("aten.select.int")
def _select(b: Builder, x: Tensor, dim: int, index: Any) -> Tensor:
    if isinstance(index, Tensor):
        raise b.refuse("its index is a tensor")
    return select(b, x, dim, index)


def narrow(b: Builder, x: Tensor, dim: int, start: int, shape: Sequence[int], step: int = 1) -> Tensor:
    """Take a regular range along one dimension."""
    shape = tuple(shape)
    if shape == x.shape and start == 0:
        return x

    def place(index: Index) -> Index:
        return (*index[:dim], index[dim].scale(step).shift(start), *index[dim + 1 :])

    return b.view(x, shape, place, _row_level(x, dim))


def _bounds(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    start = 0 if start is None else start
    end = size if end is None else end
    start = min(max(start + size if start < 0 else start, 0), size)
    end = min(max(end + size if end < 0 else end, start), size)
    return start, end


@operation("aten.slice.Tensor")
def _slice(
    b: Builder, x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    dim = _wrap(dim, len(x.shape))
    start, _ = _bounds(x.shape[dim], start, end)
    return narrow(b, x, dim, start, b.out().shape, step)


@operation("aten.narrow.default")
def _narrow(b: Builder, x: Tensor, dim: int, start: Any, length: int) -> Tensor:
    dim = _wrap(dim, len(x.shape))
    return narrow(b, x, dim, start + x.shape[dim] if start < 0 else start, b.out().shape)


@operation(
    "aten.split.Tensor",
    "aten.split_with_sizes.default",
    "aten.chunk.default",
    "aten.split.sizes",
    "aten.unsafe_split.Tensor",
    "aten.unsafe_chunk.default",
    "aten.unsafe_split_with_sizes.default",
)
def _split(b: Builder, x: Tensor, sizes: Any, dim: int = 0) -> list[Tensor]:
    dim = _wrap(dim, len(x.shape))
    out, start = [], 0
    for value in b.current.outputs:
        out.append(narrow(b, x, dim, start, value.shape))
        start += value.shape[dim]
    return out


@operation("aten.unbind.int")
def _unbind(b: Builder, x: Tensor, dim: int = 0) -> list[Tensor]:
    return [select(b, x, dim, position) for position in range(len(b.current.outputs))]


@operation("aten.diagonal.default")
def _diagonal(b: Builder, x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    rank = len(x.shape)
    dim1, dim2 = _wrap(dim1, rank), _wrap(dim2, rank)

    def place(index: Index) -> Index:
        rest, along = iter(index[:-1]), index[-1]
        row, column = along.shift(max(-offset, 0)), along.shift(max(offset, 0))
        return tuple(row if d == dim1 else column if d == dim2 else next(rest) for d in range(rank))

    return b.view(x, b.out().shape, place)


def strided(b: Builder, x: Tensor, shape: Sequence[int], stride: Sequence[int], offset: int) -> Tensor:
    """Take elements at regular places of the flat tensor."""

    def emit(k: Kernel, index: Index) -> Reg:
        flat = ix.add(Linear(offset), *(form.scale(s) for form, s in zip(index, stride, strict=True)))
        return k.read(x, k.divisions.unravel(flat, x.shape))

    return b.map(shape, x.kind, [(x, False)], emit, 0)


@operation("aten.as_strided.default")
def _as_strided(
    b: Builder, x: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    offset = storage_offset or 0
    last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    if 0 not in size and last >= x.numel:
        raise b.refuse("it looks beyond the elements of the tensor")
    return strided(b, x, size, stride, offset)


@operation("aten.unfold.default")
def _unfold(b: Builder, x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    if not x.shape:
        return b.reshape(x, b.out().shape)
    dim = _wrap(dimension, len(x.shape))

    def place(index: Index) -> Index:
        inner = index[-1]
        return tuple(
            ix.add(form.scale(step), inner) if d == dim else form for d, form in enumerate(index[:-1])
        )

    return b.view(x, b.out().shape, place)


@operation("aten.rot90.default")
def _rot90(b: Builder, x: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    first, second = dims
    turns = k % 4
    if turns == 1:
        return transpose(b, _flip(b, x, [second]), first, second)
    if turns == 2:
        return _flip(b, x, [first, second])
    if turns == 3:
        return _flip(b, transpose(b, x, first, second), [second])
    return x


# Reversal and rotation ------------------------------------------------------------------------------------
@operation("aten.flip.default")
def _flip(b: Builder, x: Tensor, dims: Sequence[int]) -> Tensor:
    chosen = {_wrap(dim, len(x.shape)) for dim in dims}

    def place(index: Index) -> Index:
        return tuple(
            form.scale(-1).shift(size - 1) if d in chosen and size > 1 else form
            for d, (form, size) in enumerate(zip(index, x.shape, strict=True))
        )

    return b.view(x, x.shape, place)


@operation("aten.roll.default")
def _roll(b: Builder, x: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    if not dims:
        flat = b.reshape(x, (x.numel,))
        return b.reshape(_roll_one(b, flat, shifts[0], 0), x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        x = _roll_one(b, x, shift, _wrap(dim, len(x.shape)))
    return x


def _roll_one(b: Builder, x: Tensor, shift: int, dim: int) -> Tensor:
    size = x.shape[dim] if x.shape else 1
    shift = shift % size if size else 0
    if shift == 0:
        return x
    pieces = [
        narrow(b, x, dim, size - shift, (*x.shape[:dim], shift, *x.shape[dim + 1 :])),
        narrow(b, x, dim, 0, (*x.shape[:dim], size - shift, *x.shape[dim + 1 :])),
    ]
    return concatenate(b, pieces, dim, x.kind)


@operation("aten.repeat.default", "aten.tile.default")
def _repeat(b: Builder, x: Tensor, repeats: Sequence[int]) -> Tensor:
    shape = tuple(b.out().shape)
    extra = len(shape) - len(x.shape)

    def emit(k: Kernel, index: Index) -> Reg:
        kept = index[extra:]
        return k.read(
            x, tuple(k.divisions.divmod(form, size)[1] for form, size in zip(kept, x.shape, strict=True))
        )

    return b.map(shape, x.kind, [(x, False)], emit, 0)


# Joining --------------------------------------------------------------------------------------------------
def concatenate(b: Builder, pieces: Sequence[Tensor], dim: int, kind: str) -> Tensor:
    """Join tensors along a dimension."""
    pieces = [b.cast(piece, kind) for piece in pieces if piece.shape[dim] > 0]
    shape = list(pieces[0].shape)
    shape[dim] = sum(piece.shape[dim] for piece in pieces)
    if len(pieces) == 1:
        return pieces[0]
    starts = [sum(piece.shape[dim] for piece in pieces[:position]) for position in range(len(pieces))]

    def emit(k: Kernel, index: Index) -> Reg:
        along = index[dim]
        result: Reg | None = None
        for piece, start in zip(pieces, starts, strict=True):
            inside = k.within(along, start, start + piece.shape[dim])
            if inside.const is False:
                continue
            with k.where(inside):
                shifted = ZERO if piece.shape[dim] == 1 else along.shift(-start)
                value = k.read(piece, (*index[:dim], shifted, *index[dim + 1 :]))
            result = value if result is None else k.select(inside, value, result)
        if result is None:
            raise RuntimeError("an index of a joined tensor is in none of its pieces")
        return result

    return b.map(shape, kind, [(piece, False) for piece in pieces], emit, len(pieces))


@operation("aten.cat.default", "aten.concat.default")
def _cat(b: Builder, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    rank = len(b.out().shape)
    tensors = [each for each in tensors if each.shape != (0,) or rank == 1]
    if not tensors or b.out().shape[_wrap(dim, rank)] == 0:
        return b.full(b.out().shape, 0, b.out_kind())
    return concatenate(b, tensors, _wrap(dim, rank), b.out_kind())


@operation("aten.stack.default")
def _stack(b: Builder, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    dim = _wrap(dim, len(b.out().shape))
    pieces = [b.reshape(each, (*each.shape[:dim], 1, *each.shape[dim:])) for each in tensors]
    return concatenate(b, pieces, dim, b.out_kind())


def inset(
    b: Builder,
    x: Tensor,
    shape: Sequence[int],
    places: Sequence[tuple[int, int, int]],
    fill: Tensor | Number,
) -> Tensor:
    """Put ``x`` into a larger tensor: per dimension first place, step and extent of ``x``; elsewhere ``fill``."""
    shape = tuple(shape)
    operands = [(x, False)] + ([(fill, True)] if isinstance(fill, Tensor) else [])

    def emit(k: Kernel, index: Index) -> Reg:
        inside: Reg = const(True, "i1")
        inner = []
        for form, (start, step, extent) in zip(index, places, strict=True):
            form = form.shift(-start)
            inside = k.conjunction(inside, k.within(form, 0, (extent - 1) * step + 1))
            if step != 1:
                form, rest = k.divisions.divmod(form, step)
                inside = k.conjunction(inside, k.negation(k.at_least(rest, 1)))
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
    return _inset_slice(b, grad, input_sizes, dim, start, end, step, 0)


def _inset_slice(
    b: Builder,
    x: Tensor,
    shape: Sequence[int],
    dim: int,
    start: int | None,
    end: int | None,
    step: int,
    fill: Tensor | Number,
) -> Tensor:
    dim = _wrap(dim, len(shape))
    first, _ = _bounds(shape[dim], start, end)
    places = [(first, step, x.shape[d]) if d == dim else (0, 1, size) for d, size in enumerate(shape)]
    return inset(b, x, shape, places, fill)


@operation("aten.select_backward.default")
def _select_backward(b: Builder, grad: Tensor, input_sizes: Sequence[int], dim: int, index: int) -> Tensor:
    dim = _wrap(dim, len(input_sizes))
    wide = b.reshape(grad, (*grad.shape[:dim], 1, *grad.shape[dim:]))
    places = [(0, 1, size) for size in input_sizes]
    places[dim] = (index + input_sizes[dim] if index < 0 else index, 1, 1)
    return inset(b, wide, input_sizes, places, 0)


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
    dim = _wrap(dim, len(x.shape))
    first, _ = _bounds(x.shape[dim], start, end)
    src = b.cast(src, x.kind)
    if updates_in_place(x):

        def place(k: Kernel, index: Index) -> tuple[Index, Reg, Reg | None]:
            target = (*index[:dim], index[dim].scale(step).shift(first), *index[dim + 1 :])
            return target, k.read(src, index), None

        return update(b, x, src, place)
    return _inset_slice(b, src, x.shape, dim, start, end, step, x)


@operation("aten.select_scatter.default")
def _select_scatter(b: Builder, x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    dim = _wrap(dim, len(x.shape))
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
    dim1, dim2 = _wrap(dim1, rank), _wrap(dim2, rank)
    operands = [(x, False)] + ([(fill, True)] if isinstance(fill, Tensor) else [])

    def emit(k: Kernel, index: Index) -> Reg:
        row, column = index[dim1].shift(-max(-offset, 0)), index[dim2].shift(-max(offset, 0))
        outside = k.read(fill, index) if isinstance(fill, Tensor) else const(fill, x.kind)
        difference = ix.add(row, column.scale(-1))
        inside = k.within(difference, 0, 1)
        inside = k.conjunction(inside, k.within(row, 0, x.shape[-1]))
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
        above = k.at_least(difference, diagonal + 1 if lower else diagonal)
        keep = k.negation(above) if lower else above
        if keep.const is False:
            return const(0, x.kind)
        return k.select(keep, k.read(x, index), const(0, x.kind))

    return b.map(x.shape, x.kind, [(x, True)], emit, 2)


# Making ---------------------------------------------------------------------------------------------------
def _register_fill(names: Sequence[str], value: Number | None) -> None:
    @operation(*names)
    def lower(b: Builder, *args: Any, **kwargs: Any) -> Tensor:
        filler = value if value is not None else kwargs.get("fill_value", args[1] if len(args) > 1 else 0)
        if isinstance(filler, Tensor):
            return expand(b, b.cast(b.reshape(filler, ()), b.out_kind()), b.out().shape)
        return b.full(b.out().shape, filler, b.out_kind())


_register_fill(
    ["aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default", "aten.zero.default"], 0
)
_register_fill(["aten.ones.default", "aten.ones_like.default", "aten.new_ones.default"], 1)
_register_fill(["aten.full.default", "aten.full_like.default", "aten.fill.Scalar", "aten.fill.Tensor"], None)
_register_fill(["aten.empty.memory_format", "aten.empty_like.default", "aten.new_empty.default"], 0)
_register_fill(["aten.empty_strided.default", "aten.new_empty_strided.default"], 0)
_register_fill(["aten.scalar_tensor.default"], None)


@operation("aten.new_full.default")
def _new_full(b: Builder, x: Tensor, size: Any, fill_value: Number, **kwargs: Any) -> Tensor:
    return b.full(b.out().shape, fill_value, b.out_kind())


@operation("aten.scalar_tensor.default")
def _scalar_tensor(b: Builder, value: Number, **kwargs: Any) -> Tensor:
    return b.full((), value, b.out_kind())


@operation("aten.copy.default")
def _copy(b: Builder, x: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    return expand(b, b.cast(src, b.out_kind()), b.out().shape)


@operation("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def _arange(b: Builder, *args: Number, **kwargs: Any) -> Tensor:
    start, step = (0 if len(args) == 1 else args[0]), (args[2] if len(args) > 2 else 1)
    return _progression(b, start, step)


def _progression(b: Builder, start: Number, step: Number) -> Tensor:
    kind = b.out_kind()

    def emit(k: Kernel, index: Index) -> Reg:
        if kind == "i64":
            return k.index_value(index[0].scale(int(step)).shift(int(start)))
        count = k.convert(k.index_value(index[0]), kind)
        return k.add(k.mul(count, const(step, kind)), const(start, kind))

    return b.map(b.out().shape, kind, (), emit, 1)


@operation("aten.linspace.default")
def _linspace(b: Builder, start: Number, end: Number, steps: int, **kwargs: Any) -> Tensor:
    kind = b.out_kind()
    step = (end - start) / max(steps - 1, 1)

    def emit(k: Kernel, index: Index) -> Reg:
        count = k.convert(k.index_value(index[0]), kind)
        back = k.convert(k.index_value(index[0].scale(-1).shift(steps - 1)), kind)
        up = k.add(const(start, kind), k.mul(count, const(step, kind)))
        down = k.sub(const(end, kind), k.mul(back, const(step, kind)))
        return k.select(k.at_least(index[0], steps // 2), down, up)

    return b.map(b.out().shape, kind, (), emit, 4)


@operation("aten.eye.default", "aten.eye.m")
def _eye(b: Builder, *args: Any, **kwargs: Any) -> Tensor:
    kind = b.out_kind()

    def emit(k: Kernel, index: Index) -> Reg:
        inside = k.within(ix.add(index[0], index[1].scale(-1)), 0, 1)
        return k.select(inside, const(1, kind), const(0, kind))

    return b.map(b.out().shape, kind, (), emit, 2)


__all__ = ["concatenate", "expand", "inset", "math", "permute", "select", "strided", "transpose", "triangle"]
