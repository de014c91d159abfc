"""Lower sorting and searching, by counting how many elements come before each.

The number of comparisons grows with the square of the length, but they run in lanes and need no branches.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..builder import Builder, operation
from ..elements import Reg, const, is_float
from ..index import ZERO
from ..kernel import Kernel
from ..stages import Scatter
from ..tensors import ANYWHERE, SAME_PLACE, Index, Tensor
from .reductions import reduce_axes
from .views import narrow, select, transpose

LONGEST = 1 << 14


def _precedes(k: Kernel, a: Reg, c: Reg, descending: bool) -> Reg:
    """Say whether ``a`` sorts strictly before ``c``; NaN counts as the largest number."""
    low, high = (c, a) if descending else (a, c)
    if low.kind == "i1":
        return k.binary("and", k.invert(low), high)
    less = k.compare("lt", low, high)
    if not is_float(low.kind):
        return less
    return k.binary("or", less, k.binary("and", k.isnan(high), k.invert(k.isnan(low))))


def sort(b: Builder, x: Tensor, dim: int, descending: bool) -> tuple[Tensor, Tensor]:
    """Return sorted elements and where they came from; equal ones keep their order."""
    if not x.shape:
        return x, b.full((), 0, "i64")
    axis = dim + len(x.shape) if dim < 0 else dim
    if axis != len(x.shape) - 1:
        values, places = sort(b, transpose(b, x, axis, -1), -1, descending)
        return transpose(b, values, axis, -1), transpose(b, places, axis, -1)
    length = x.shape[-1]
    if length > LONGEST:
        raise b.refuse(f"sorting more than {LONGEST} elements is left to torch")
    source = x if x.stage is not None or x.storage is not None else b.copy(x)

    def earlier(k: Kernel, index: Index) -> Reg:
        *lead, own, other = index
        mine, theirs = k.read(source, (*lead, own)), k.read(source, (*lead, other))
        before = _precedes(k, theirs, mine, descending)
        after = _precedes(k, mine, theirs, descending)
        first = k.compare("lt", k.index_value(other), k.index_value(own))
        differ = k.binary("or", before, after)
        return k.convert(k.binary("or", before, k.binary("and", k.invert(differ), first)), "i64")

    pairs = b.map((*x.shape, length), "i64", [(source, ANYWHERE)], earlier, 6)
    ranks = reduce_axes(b, [pairs], [len(x.shape)], [const(0, "i64")], lambda k, u, v: [k.add(u[0], v[0])])[0]

    def moved(kind: str, value: Tensor) -> Tensor:
        output = b.new(x.shape, kind)

        def place(k: Kernel, index: Index) -> tuple[Index, Reg, Reg | None]:
            rank = k.opaque(k.read(ranks, index), 0, max(length - 1, 0))
            return (*index[:-1], rank), k.read(value, index), None

        operands = [(ranks, SAME_PLACE), (value, SAME_PLACE)]
        b.add(Scatter(b.full(x.shape, 0, kind), output, x.shape, operands, place))
        return output

    numbers = b.map(x.shape, "i64", (), lambda k, index: k.index_value(index[-1]), 1)
    return moved(x.kind, source), moved("i64", numbers)


@operation("aten.sort.default", "aten.sort.stable")
def _sort(
    b: Builder, x: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> Sequence[Tensor]:
    return sort(b, x, dim, descending)


@operation("aten.argsort.default", "aten.argsort.stable")
def _argsort(
    b: Builder, x: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> Tensor:
    return sort(b, x, dim, descending)[1]


@operation("aten.topk.default")
def _topk(
    b: Builder, x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> list[Tensor]:
    values, places = sort(b, x, dim, largest)
    if not x.shape:
        return [values, places]
    axis = dim + len(x.shape) if dim < 0 else dim
    return [narrow(b, each, axis, 0, b.out().shape) for each in (values, places)]


@operation("aten.kthvalue.default")
def _kthvalue(b: Builder, x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> list[Tensor]:
    values, places = sort(b, x, dim, False)
    return [_at(b, each, dim, k - 1) for each in (values, places)]


def _at(b: Builder, x: Tensor, dim: int, position: int) -> Tensor:
    return b.reshape(select(b, x, dim, position) if x.shape else x, b.out().shape)


@operation("aten.median.default")
def _median_all(b: Builder, x: Tensor) -> Tensor:
    flat = b.reshape(x, (x.numel,))
    return _median_value(b, flat, 0)[0]


@operation("aten.median.dim")
def _median(b: Builder, x: Tensor, dim: int, keepdim: bool = False) -> list[Tensor]:
    return _median_value(b, x, dim)


def _median_value(b: Builder, x: Tensor, dim: int) -> list[Tensor]:
    values, places = sort(b, x, dim, False)
    length = x.shape[dim] if x.shape else 1
    middle = [_at(b, each, dim, (length - 1) // 2) for each in (values, places)]
    if not is_float(x.kind):
        return middle
    # A single NaN makes the median NaN; it sorts last.
    last = [_at(b, each, dim, length - 1) for each in (values, places)]
    broken = last[0]

    def choose(k: Kernel, end: Reg, mid: Reg, top: Reg) -> Reg:
        return k.select(k.isnan(end), top, mid)

    shape = middle[0].shape
    out: list[Tensor] = []
    for mid, top in zip(middle, last, strict=True):

        def emit(k: Kernel, index: Index, mid: Tensor = mid, top: Tensor = top) -> Reg:
            return choose(k, k.read(broken, index), k.read(mid, index), k.read(top, index))

        out.append(
            b.map(shape, mid.kind, [(broken, SAME_PLACE), (mid, SAME_PLACE), (top, SAME_PLACE)], emit, 2)
        )
    return out


@operation(
    "aten.searchsorted.Tensor", "aten.searchsorted.Scalar", "aten.bucketize.Tensor", "aten.bucketize.Scalar"
)
def _searchsorted(
    b: Builder,
    first: Tensor,
    second: Tensor,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    if sorter is not None:
        raise b.refuse("a sorter is not supported")
    search = b.current.op.startswith("aten.searchsorted")
    boundaries, values = (first, second) if search else (second, first)
    if not isinstance(values, Tensor):
        values = b.full((), values, boundaries.kind)
    upper = right or side == "right"
    compute = b.promote(boundaries, values)
    rows = len(boundaries.shape) > 1
    length = boundaries.shape[-1]

    def passed(k: Kernel, index: Index) -> Reg:
        *place, step = index
        lead = tuple(place[:-1]) if rows else ()
        edge = k.convert(k.read(boundaries, (*lead, step if length != 1 else ZERO)), compute)
        value = k.convert(k.read(values, tuple(place)), compute)
        # NaN belongs behind all numbers.
        before = _precedes(k, value, edge, False) if upper else k.invert(_precedes(k, edge, value, False))
        return k.convert(k.invert(before), "i64")

    pairs = b.map((*values.shape, length), "i64", [(boundaries, ANYWHERE), (values, ANYWHERE)], passed, 4)
    counted = reduce_axes(
        b, [pairs], [len(values.shape)], [const(0, "i64")], lambda k, u, v: [k.add(u[0], v[0])]
    )[0]
    return b.cast(counted, b.out_kind())
