"""Lower updates that combine values with the elements they meet, or among themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..builder import Builder, Number, operation
from ..elements import Reg, const, is_float
from ..kernel import Kernel
from ..tensors import Tensor
from .arithmetic import integer_divide
from .extremes import highest, lowest
from .scatters import REDUCTIONS, Combine, index_update, plus, scatter_along
from .selection import maximum, minimum, mixed


@operation("aten.scatter_reduce.two")
def _scatter_reduce(
    b: Builder, x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, include_self: bool = True
) -> Tensor:
    def put(base: Tensor, values: Tensor | Number, combine: Combine | None) -> Tensor:
        return scatter_along(b, base, dim, index, values, combine)

    return _reduced_update(b, x, put, src, reduce, include_self)


def _reduced_update(
    b: Builder,
    x: Tensor,
    put: Callable[[Tensor, Any, Combine | None], Tensor],
    source: Tensor,
    reduce: str,
    include_self: bool,
) -> Tensor:
    """Combine values with the elements that they meet, or among themselves only."""
    mean = reduce == "mean"
    combine = REDUCTIONS["sum" if mean else reduce]
    base = x
    if not include_self:
        touched = put(b.full(x.shape, False, "i1"), _like(b, source, True, "i1"), None)
        neutral = b.full((), _identity(x.kind, combine), x.kind)
        base = mixed(b, lambda k, t, old, new: k.select(t, new, old), touched, x, neutral, kind=x.kind)
    result = put(base, source, combine)
    if not mean:
        return result
    first = b.full(x.shape, 1 if include_self else 0, x.kind)
    count = put(first, _like(b, source, 1, x.kind), plus)

    def divide(k: Kernel, total: Reg, number: Reg) -> Reg:
        one = const(1, number.kind)
        number = k.select(k.compare("lt", number, one), one, number)
        return k.div(total, number) if is_float(x.kind) else integer_divide(k, total, number, "floor")

    return b.pointwise(divide, result, count, kind=x.kind, compute=x.kind, cost=4)


def _like(b: Builder, source: Tensor, value: Number, kind: str) -> Tensor:
    return b.full(source.shape, value, kind)


def _identity(kind: str, combine: Combine) -> Number:
    if combine is maximum:
        return lowest(kind)
    if combine is minimum:
        return highest(kind)
    return 0 if combine is plus else 1


@operation("aten.index_reduce.default")
def _index_reduce(
    b: Builder, x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, include_self: bool = True
) -> Tensor:
    def put(base: Tensor, values: Tensor, combine: Combine | None) -> Tensor:
        return index_update(b, base, dim, index, values, combine)

    return _reduced_update(b, x, put, source, reduce, include_self)
