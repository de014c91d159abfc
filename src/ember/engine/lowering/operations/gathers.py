"""Lower indexing by tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import conditions
from ..builder import Builder, operation
from ..elements import Reg, const
from ..index import Linear
from ..kernel import Kernel
from ..tensors import Index, Map, Tensor, broadcast, broadcast_index, squeeze
from .views import expand


def checked(k: Kernel, reg: Reg, size: int, wrap: bool = True) -> tuple[Linear, Reg]:
    """Turn an element of an index tensor into an index; note, and return, whether it is in bounds."""
    reg = k.convert(reg, "i64")
    if reg.const is not None:
        value = int(reg.const) + (size if wrap and reg.const < 0 else 0)
        inside = const(0 <= value < size, "i1")
        k.report_bad(conditions.negation(k, inside))
        return Linear(value if inside.const else 0), inside
    zero = const(0, "i64")
    if wrap:
        reg = k.select(k.compare("lt", reg, zero), k.add(reg, const(size, "i64")), reg)
    lanes, (text, bound) = k.align(reg, const(size, "i64"))
    full = "i64" if lanes == 1 else f"<{lanes} x i64>"
    inside = k.pure(f"icmp ult {full} {text}, {bound}", "i1", lanes)
    k.report_bad(k.invert(inside))
    return k.opaque(k.select(inside, reg, zero), 0, max(size - 1, 0)), inside


def plan_index(
    b: Builder, x_shape: Sequence[int], indices: Sequence[Tensor | None]
) -> tuple[tuple[int, ...], tuple[int, ...], Callable[[Kernel, Index], tuple[Index, Reg]]]:
    """Return the result's shape, the indices' joint shape, and the map from result to source."""
    known = [(dim, each) for dim, each in enumerate(indices) if each is not None]
    for _, each in known:
        if each.kind in ("i1", "u8"):
            raise b.refuse("it is indexed by a mask, so its shape depends on data")
    joint = broadcast(*(each.shape for _, each in known))
    dims = [dim for dim, _ in known]
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    rest = [dim for dim in range(len(x_shape)) if dim not in dims]
    if adjacent:
        before = [dim for dim in rest if dim < dims[0]]
        after = [dim for dim in rest if dim > dims[-1]]
    else:
        before, after = [], rest
    shape = (*(x_shape[d] for d in before), *joint, *(x_shape[d] for d in after))
    start = len(before)

    def source(k: Kernel, index: Index) -> tuple[Index, Reg]:
        inner = index[start : start + len(joint)]
        place: dict[int, Linear] = dict(zip(before, index[:start], strict=True))
        place.update(zip(after, index[start + len(joint) :], strict=True))
        valid: Reg = const(True, "i1")
        for dim, each in known:
            element = k.read(each, broadcast_index(each, inner, joint))
            place[dim], inside = checked(k, element, x_shape[dim])
            valid = conditions.conjunction(k, valid, inside)
        return tuple(place[dim] for dim in range(len(x_shape))), valid

    return shape, joint, source


def gather(
    b: Builder,
    x: Tensor,
    shape: Sequence[int],
    indices: Sequence[Tensor],
    source: Callable[[Kernel, Index], tuple[Index, Reg]],
) -> Map:
    """Make a tensor of elements of ``x`` at computed places."""

    def emit(k: Kernel, index: Index) -> Reg:
        if x.numel == 0:
            source(k, index)
            return const(0, x.kind)
        place, valid = source(k, index)
        if valid.const is None and valid.lanes > 1:
            with k.where(valid):
                return k.read(x, place)
        return k.read(x, place)

    pairs = [(each, squeeze(each.shape) == squeeze(shape)) for each in indices]
    return b.map(shape, x.kind, [*pairs, (x, False)], emit, 6)


@operation("aten.index.Tensor", "aten._unsafe_index.Tensor")
def _index(b: Builder, x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    if not any(each is not None for each in indices):
        return x
    shape, _, source = plan_index(b, x.shape, indices)
    return gather(b, x, shape, [each for each in indices if each is not None], source)


@operation("aten.index_select.default")
def _index_select(b: Builder, x: Tensor, dim: int, index: Tensor) -> Tensor:
    if not x.shape:
        return b.reshape(x, b.out().shape)
    dim = dim + len(x.shape) if dim < 0 else dim
    flat = b.reshape(index, (index.numel,))
    shape, _, source = plan_index(b, x.shape, [*[None] * dim, flat])
    return gather(b, x, shape, [flat], source)


@operation("aten.embedding.default")
def _embedding(b: Builder, weight: Tensor, indices: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    shape, _, source = plan_index(b, weight.shape, [indices])
    return gather(b, weight, shape, [indices], source)


@operation("aten.take.default")
def _take(b: Builder, x: Tensor, index: Tensor) -> Tensor:
    flat = b.reshape(x, (x.numel,))
    shape, _, source = plan_index(b, flat.shape, [index])
    return gather(b, flat, shape, [index], source)


def along_dim(b: Builder, x_shape: Sequence[int], dim: int, index: Tensor) -> Any:
    dim = dim + len(x_shape) if dim < 0 else dim

    def source(k: Kernel, at: Index) -> tuple[Index, Reg]:
        place, valid = checked(k, k.read(index, at), x_shape[dim], wrap=False)
        return (*at[:dim], place, *at[dim + 1 :]), valid

    return source


@operation("aten.gather.default", "aten.take_along_dim.default")
def _gather(b: Builder, x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    if not x.shape:
        return b.reshape(expand(b, b.reshape(x, (1,)), (index.numel,)), index.shape)
    if not index.shape:
        return b.reshape(_gather(b, x, dim, b.reshape(index, (1,))), ())
    return gather(b, x, index.shape, [index], along_dim(b, x.shape, dim, index))
