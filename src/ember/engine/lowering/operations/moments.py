"""Lower means, variances and standard deviations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..builder import Builder, Number, operation
from ..elements import Reg, const
from ..kernel import Kernel
from ..tensors import Tensor
from .reductions import as_output, axes_of, total


def _moments(b: Builder, x: Tensor, dim: Any, correction: Number, kind: str) -> tuple[Tensor, Tensor]:
    """Return variance and mean, without the reduced axes, in two passes."""
    axes = axes_of(dim, len(x.shape))
    count = math.prod(x.shape[axis] for axis in axes)
    summed = total(b, x, axes, kind)
    mean = b.pointwise(lambda k, u: k.div(u, const(count, kind)), summed, kind=kind, compute=kind, cost=4)
    spread_shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    wide = b.reshape(mean, spread_shape)

    def square(k: Kernel, u: Reg, m: Reg) -> Reg:
        d = k.sub(u, m)
        return k.mul(d, d)

    squares = b.pointwise(square, x, wide, kind=kind, compute=kind, cost=2, shape=x.shape)
    summed_squares = total(b, squares, axes, kind)
    freedom = max(count - correction, 0)
    variance = b.pointwise(
        lambda k, u: k.div(u, const(float(freedom), kind)), summed_squares, kind=kind, compute=kind, cost=4
    )
    return variance, mean


def _variance(b: Builder, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    x, *rest = args
    if "correction" in kwargs or b.current.op.endswith("correction"):
        dim = rest[0] if rest else kwargs.get("dim")
        correction = kwargs.get("correction")
        correction = 1 if correction is None else correction
    elif b.current.op.endswith(".default"):
        dim, correction = None, 1 if (rest[0] if rest else kwargs.get("unbiased", True)) else 0
    else:
        dim = rest[0]
        correction = 1 if (rest[1] if len(rest) > 1 else kwargs.get("unbiased", True)) else 0
    return _moments(b, x, dim, correction, b.out_kind())


@operation("aten.var.default", "aten.var.dim", "aten.var.correction")
def _var(b: Builder, *args: Any, **kwargs: Any) -> Tensor:
    return as_output(b, _variance(b, args, kwargs)[0])


@operation("aten.std.default", "aten.std.dim", "aten.std.correction")
def _std(b: Builder, *args: Any, **kwargs: Any) -> Tensor:
    variance = _variance(b, args, kwargs)[0]
    return as_output(b, b.pointwise(lambda k, u: k.unary("sqrt", u), variance, cost=5))


@operation("aten.var_mean.default", "aten.var_mean.dim", "aten.var_mean.correction")
def _var_mean(b: Builder, *args: Any, **kwargs: Any) -> list[Tensor]:
    shape = b.out().shape
    return [b.reshape(each, shape) for each in _variance(b, args, kwargs)]


@operation("aten.std_mean.default", "aten.std_mean.dim", "aten.std_mean.correction")
def _std_mean(b: Builder, *args: Any, **kwargs: Any) -> list[Tensor]:
    variance, mean = _variance(b, args, kwargs)
    deviation = b.pointwise(lambda k, u: k.unary("sqrt", u), variance, cost=5, kind=b.out_kind())
    return [b.reshape(each, b.out().shape) for each in (deviation, mean)]
