"""Lower joins of tensors along a dimension, and rotations, which are joins of parts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from .. import conditions
from ..builder import Builder, operation
from ..elements import Reg
from ..index import ZERO
from ..kernel import Kernel
from ..loops import pointwise_loop
from ..stages import Extern
from ..tensors import Index, Tensor
from .views import narrow, row_level, wrap_dim

MOST_CHOICES = 16  # pieces among which each element of a join chooses


@operation("aten.roll.default")
def _roll(b: Builder, x: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    if not dims:
        flat = b.reshape(x, (x.numel,))
        return b.reshape(_roll_one(b, flat, shifts[0], 0), x.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        x = _roll_one(b, x, shift, wrap_dim(dim, len(x.shape)))
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


# Joining --------------------------------------------------------------------------------------------------
def concatenate(b: Builder, pieces: Sequence[Tensor], dim: int, kind: str) -> Tensor:
    """Join tensors along a dimension."""
    pieces = [b.cast(piece, kind) for piece in pieces if piece.shape[dim] > 0]
    shape = list(pieces[0].shape)
    shape[dim] = sum(piece.shape[dim] for piece in pieces)
    if len(pieces) == 1:
        return pieces[0]
    starts = [0, *itertools.accumulate(piece.shape[dim] for piece in pieces)][:-1]
    if len(pieces) > MOST_CHOICES:
        return _copied(b, pieces, starts, dim, shape)

    def emit(k: Kernel, index: Index) -> Reg:
        along = index[dim]
        result: Reg | None = None
        for piece, start in zip(pieces, starts, strict=True):
            inside = conditions.within(k, along, start, start + piece.shape[dim])
            if inside.const is False:
                continue
            with k.where(inside):
                shifted = ZERO if piece.shape[dim] == 1 else along.shift(-start)
                value = k.read(piece, (*index[:dim], shifted, *index[dim + 1 :]))
            result = value if result is None else k.select(inside, value, result)
        if result is None:
            raise RuntimeError("an index of a joined tensor is in none of its pieces")
        return result

    return b.map(shape, kind, [(piece, row_level(piece, dim)) for piece in pieces], emit, len(pieces))


def _copied(
    b: Builder, pieces: Sequence[Tensor], starts: Sequence[int], dim: int, shape: Sequence[int]
) -> Tensor:
    """Write each piece to its place: with many, choosing one for every element would take too long."""
    out = b.new(shape, pieces[0].kind)

    def run(k: Kernel) -> None:
        for piece, start in zip(pieces, starts, strict=True):

            def one(index: Index, piece: Tensor = piece, start: int = start) -> None:
                place = (*index[:dim], index[dim].shift(start), *index[dim + 1 :])
                k.write(out, place, k.read(piece, index))

            with k.scope():
                pointwise_loop(k, piece.shape, one)

    b.add(Extern(pieces, [], [out], run, weight=4 * len(pieces)))
    return out


@operation("aten.cat.default", "aten.concat.default")
def _cat(b: Builder, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    rank = len(b.out().shape)
    tensors = [each for each in tensors if each.shape != (0,) or rank == 1]
    if not tensors or b.out().shape[wrap_dim(dim, rank)] == 0:
        return b.full(b.out().shape, 0, b.out_kind())
    return concatenate(b, tensors, wrap_dim(dim, rank), b.out_kind())


@operation("aten.stack.default")
def _stack(b: Builder, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    dim = wrap_dim(dim, len(b.out().shape))
    pieces = [b.reshape(each, (*each.shape[:dim], 1, *each.shape[dim:])) for each in tensors]
    return concatenate(b, pieces, dim, b.out_kind())
