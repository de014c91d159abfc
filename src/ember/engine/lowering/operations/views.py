"""Lower views: selections of elements by index maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import index as ix
from ..builder import OPERATIONS, Builder, operation
from ..elements import Reg
from ..index import ZERO, Linear
from ..kernel import Kernel
from ..tensors import ANYWHERE, SAME_ROW, Index, Tensor


def wrap_dim(dim: int, rank: int) -> int:
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
    return b.expand(x, shape)


def permute(b: Builder, x: Tensor, dims: Sequence[int]) -> Tensor:
    """Reorder dimensions."""
    dims = [wrap_dim(dim, len(x.shape)) for dim in dims]
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
    dim0, dim1 = wrap_dim(dim0, rank), wrap_dim(dim1, rank)
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
    sources = [wrap_dim(d, rank) for d in (source if isinstance(source, list) else [source])]
    targets = [wrap_dim(d, rank) for d in (destination if isinstance(destination, list) else [destination])]
    dims: list[int | None] = [None] * rank
    for s, t in zip(sources, targets, strict=True):
        dims[t] = s
    rest = iter(d for d in range(rank) if d not in sources)
    return permute(b, x, [next(rest) if d is None else d for d in dims])


def select(b: Builder, x: Tensor, dim: int, position: int) -> Tensor:
    """Take one slice and drop its dimension."""
    dim = wrap_dim(dim, len(x.shape))
    position = position + x.shape[dim] if position < 0 else position
    fixed = Linear(position)
    shape = x.shape[:dim] + x.shape[dim + 1 :]
    if x.shape[dim] == 1:
        return b.reshape(x, shape)
    return b.view(x, shape, lambda index: (*index[:dim], fixed, *index[dim:]), row_level(x, dim))


def row_level(x: Tensor, dim: int) -> int:
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

    return b.view(x, shape, place, row_level(x, dim))


def slice_bounds(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    start = 0 if start is None else start
    end = size if end is None else end
    start = min(max(start + size if start < 0 else start, 0), size)
    end = min(max(end + size if end < 0 else end, start), size)
    return start, end


@operation("aten.slice.Tensor")
def _slice(
    b: Builder, x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    dim = wrap_dim(dim, len(x.shape))
    start, _ = slice_bounds(x.shape[dim], start, end)
    return narrow(b, x, dim, start, b.out().shape, step)


@operation("aten.narrow.default")
def _narrow(b: Builder, x: Tensor, dim: int, start: Any, length: int) -> Tensor:
    dim = wrap_dim(dim, len(x.shape))
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
    dim = wrap_dim(dim, len(x.shape))
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
    dim1, dim2 = wrap_dim(dim1, rank), wrap_dim(dim2, rank)

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
    dim = wrap_dim(dimension, len(x.shape))

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
    chosen = {wrap_dim(dim, len(x.shape)) for dim in dims}

    def place(index: Index) -> Index:
        return tuple(
            form.scale(-1).shift(size - 1) if d in chosen and size > 1 else form
            for d, (form, size) in enumerate(zip(index, x.shape, strict=True))
        )

    return b.view(x, x.shape, place)


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


# Copies of views are the same values.
COPIES = (
    "view.default", "expand.default", "permute.default", "transpose.int", "t.default", "unsqueeze.default",
    "squeeze.default", "squeeze.dim", "squeeze.dims", "select.int", "slice.Tensor", "narrow.default",
    "split.Tensor", "split_with_sizes.default", "unbind.int", "diagonal.default", "unfold.default",
    "as_strided.default",
)  # fmt: skip
for _name in COPIES:
    operation(f"aten.{_name.replace('.', '_copy.')}")(OPERATIONS[f"aten.{_name}"])
