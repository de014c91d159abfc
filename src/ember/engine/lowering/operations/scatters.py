"""Lower updates at places given by tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .. import conditions
from ..builder import Builder, Number, operation
from ..elements import Reg, const
from ..index import Linear
from ..kernel import Kernel
from ..stages import Scatter
from ..tensors import Index, Tensor, broadcast_index, squeeze
from .gathers import along_dim, checked, plan_index
from .selection import maximum, minimum
from .views import expand

Combine = Callable[[Kernel, Reg, Reg], Reg]


# Scatters -------------------------------------------------------------------------------------------------
def scatter(
    b: Builder,
    base: Tensor,
    shape: Sequence[int],
    operands: Sequence[Tensor],
    place: Callable[[Kernel, Index], tuple[Index, Reg]],
    value: Callable[[Kernel, Index], Reg],
    combine: Combine | None,
) -> Tensor:
    """Update a copy of ``base`` at computed places, in row-major order of ``shape``."""
    output = b.new(base.shape, base.kind)

    def at(k: Kernel, index: Index) -> tuple[Index, Reg, Reg | None]:
        target, valid = place(k, index)
        return target, value(k, index), None if valid.const is True else valid

    pairs = [(each, squeeze(each.shape) == squeeze(shape)) for each in operands]
    b.add(Scatter(base, output, shape, pairs, at, combine))
    return output


def plus(k: Kernel, old: Reg, new: Reg) -> Reg:
    return k.binary("or", old, new) if old.kind == "i1" else k.add(old, new)


@operation("aten.index_put.default", "aten._unsafe_index_put.default", "aten._index_put_impl.default")
def _index_put(
    b: Builder,
    x: Tensor,
    indices: Sequence[Tensor | None],
    values: Tensor,
    accumulate: bool = False,
    unsafe: bool = False,
) -> Tensor:
    known = [each for each in indices if each is not None]
    if any(each.kind == "i1" for each in known):
        return _masked_put(b, x, indices, values, accumulate)
    shape, _, source = plan_index(b, x.shape, indices)
    values = b.cast(values, x.kind)
    return scatter(
        b,
        x,
        shape,
        [values, *known],
        source,
        lambda k, index: k.read(values, broadcast_index(values, index, shape)),
        plus if accumulate else None,
    )


def _masked_put(
    b: Builder, x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool
) -> Tensor:
    mask = indices[0]
    if len(indices) != 1 or mask is None or values.numel != 1:
        raise b.refuse("it is indexed by a mask, and the values are not one number")
    wide = b.reshape(mask, (*mask.shape, *[1] * (len(x.shape) - len(mask.shape))))
    value = b.cast(b.reshape(values, ()), x.kind)
    shape = x.shape

    def emit(k: Kernel, index: Index) -> Reg:
        old, new = k.read(x, index), k.read(value, ())
        new = plus(k, old, new) if accumulate else new
        return k.select(k.read(wide, broadcast_index(wide, index, shape)), new, old)

    aligned = squeeze(wide.shape) == squeeze(shape)
    return b.map(shape, x.kind, [(x, True), (wide, aligned), (value, False)], emit, 2)


@operation("aten.index_add.default")
def _index_add(b: Builder, x: Tensor, dim: int, index: Tensor, source: Tensor, alpha: Number = 1) -> Tensor:
    def value(k: Kernel, element: Reg) -> Reg:
        return element if alpha == 1 else k.mul(element, const(alpha, element.kind))

    return index_update(b, x, dim, index, source, plus, value)


@operation("aten.index_copy.default")
def _index_copy(b: Builder, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    return index_update(b, x, dim, index, source, None)


@operation("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor")
def _index_fill(b: Builder, x: Tensor, dim: int, index: Tensor, value: Tensor | Number) -> Tensor:
    filler = b.cast(b.reshape(value, ()), x.kind) if isinstance(value, Tensor) else b.full((), value, x.kind)
    axis = dim + max(len(x.shape), 1) if dim < 0 else dim
    shape = tuple(index.numel if d == axis else size for d, size in enumerate(x.shape or (1,)))
    return index_update(b, x, dim, index, expand(b, filler, shape), None)


def index_update(
    b: Builder,
    x: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    combine: Combine | None,
    transform: Callable[[Kernel, Reg], Reg] = lambda k, element: element,
) -> Tensor:
    if not x.shape:
        wide = index_update(
            b, b.reshape(x, (1,)), 0, index, b.reshape(source, (source.numel,)), combine, transform
        )
        return b.reshape(wide, ())
    dim = dim + len(x.shape) if dim < 0 else dim
    flat = b.reshape(index, (index.numel,))
    if not source.shape:
        source = b.reshape(source, (1,) * len(x.shape))
    source = b.cast(source, x.kind)

    def place(k: Kernel, at: Index) -> tuple[Index, Reg]:
        inner = at[dim] if flat.numel != 1 else Linear(0)
        target, valid = checked(k, k.read(flat, (inner,)), x.shape[dim], wrap=False)
        return (*at[:dim], target, *at[dim + 1 :]), valid

    return scatter(
        b, x, source.shape, [source, flat], place, lambda k, at: transform(k, k.read(source, at)), combine
    )


def _product(k: Kernel, old: Reg, new: Reg) -> Reg:
    return k.mul(old, new)


REDUCTIONS: dict[str, Combine] = {
    "sum": plus,
    "add": plus,
    "prod": _product,
    "multiply": _product,
    "amax": maximum,
    "amin": minimum,
}


@operation("aten.scatter.src", "aten.scatter.value", "aten.scatter.reduce", "aten.scatter.value_reduce")
def _scatter(
    b: Builder, x: Tensor, dim: int, index: Tensor, src: Tensor | Number, reduce: str | None = None
) -> Tensor:
    return scatter_along(b, x, dim, index, src, None if reduce is None else REDUCTIONS[reduce])


@operation("aten.scatter_add.default")
def _scatter_add(b: Builder, x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    return scatter_along(b, x, dim, index, src, plus)


def scatter_along(
    b: Builder, x: Tensor, dim: int, index: Tensor, src: Tensor | Number, combine: Combine | None
) -> Tensor:
    if not x.shape:
        flat_src = b.reshape(src, (src.numel,)) if isinstance(src, Tensor) else src
        flat = b.reshape(index, (index.numel,))
        return b.reshape(scatter_along(b, b.reshape(x, (1,)), 0, flat, flat_src, combine), ())
    if not index.shape:
        index = b.reshape(index, (1,))
        src = b.reshape(src, (1,)) if isinstance(src, Tensor) else src
    if index.numel == 0:
        return x
    source = b.cast(src, x.kind) if isinstance(src, Tensor) else b.full(index.shape, src, x.kind)
    return (
        scatter(
            b,
            x,
            index.shape,
            [index, source] if source.shape == index.shape else [index],
            along_dim(b, x.shape, dim, index),
            lambda k, at: k.read(source, at),
            combine,
        )
        if source.shape == index.shape
        else _scatter_part(b, x, dim, index, source, combine)
    )


def _scatter_part(
    b: Builder, x: Tensor, dim: int, index: Tensor, source: Tensor, combine: Combine | None
) -> Tensor:
    """Scatter the leading part of a source that is larger than the index."""
    part = b.view(source, index.shape, lambda at: at)
    return scatter(
        b,
        x,
        index.shape,
        [index, part],
        along_dim(b, x.shape, dim, index),
        lambda k, at: k.read(part, at),
        combine,
    )


@operation("aten.put.default")
def _put(b: Builder, x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    flat = b.reshape(x, (x.numel,))
    values = b.reshape(source, index.shape)
    return b.reshape(_index_put(b, flat, [index], values, accumulate), x.shape)


@operation("aten.embedding_dense_backward.default")
def _embedding_backward(
    b: Builder, grad: Tensor, indices: Tensor, num_weights: int, padding_idx: int, scale_by_freq: bool
) -> Tensor:
    if scale_by_freq:
        raise b.refuse("scaling gradients by frequency is not supported")
    rows = (num_weights, grad.shape[-1])
    base = b.full(rows, 0, grad.kind)
    shape, _, source = plan_index(b, rows, [indices])

    def place(k: Kernel, index: Index) -> tuple[Index, Reg]:
        target, valid = source(k, index)
        kept = k.compare("ne", k.index_value(target[0]), const(padding_idx, "i64"))
        return target, kept if valid.const is True else conditions.conjunction(k, valid, kept)

    return scatter(b, base, shape, [grad, indices], place, lambda k, index: k.read(grad, index), plus)


@operation("aten.masked_scatter.default")
def _masked_scatter(b: Builder, x: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    raise b.refuse("the place of each element depends on the mask")
