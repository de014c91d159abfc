"""Lower cumulative sums, products and extremes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..builder import Builder, operation
from ..elements import Reg, const, is_float
from ..kernel import Kernel
from ..stages import Prefix
from ..tensors import Index, Tensor
from .elementary import elementary
from .extremes import highest, lowest
from .selection import maximum, minimum


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
