"""Lower log-sum-exp and softmax, with gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..builder import Builder, operation
from ..elements import Reg, const
from ..kernel import Kernel
from ..tensors import Tensor
from .elementary import elementary
from .extremes import extreme
from .reductions import as_output, axes_of, total


def logsumexp(b: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Stable log of the sum of exponentials; the result lacks the axes."""
    top = extreme(b, x, axes, True)
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    inf = const(math.inf, x.kind)

    def finite(k: Kernel, u: Reg) -> Reg:
        return k.select(k.compare("eq", k.unary("fabs", u), inf), const(0.0, x.kind), u)

    shift = b.pointwise(finite, top, kind=x.kind, compute=x.kind, cost=2)
    exp, log = elementary("exp"), elementary("log")
    shifted = b.pointwise(
        lambda k, u, m: exp(k, k.sub(u, m)),
        x,
        b.reshape(shift, kept),
        kind=x.kind,
        compute=x.kind,
        shape=x.shape,
        cost=26,
    )
    summed = total(b, shifted, axes, x.kind)
    return b.pointwise(
        lambda k, s, m: k.add(log(k, s), m), summed, shift, kind=x.kind, compute=x.kind, cost=31
    )


@operation("aten.logsumexp.default", "aten.special_logsumexp.default")
def _logsumexp(b: Builder, x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    return as_output(b, logsumexp(b, b.cast(x, b.out_kind()), axes_of(dim, len(x.shape))))


@operation("aten._safe_softmax.default")
def _safe_softmax(b: Builder, x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    weights = _softmax(b, x, dim)

    def zero(k: Kernel, w: Reg, t: Reg) -> Reg:
        return k.select(k.compare("eq", t, const(-math.inf, t.kind)), const(0.0, w.kind), w)

    axes = axes_of(dim, len(x.shape))
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    top = b.reshape(extreme(b, b.cast(x, weights.kind), axes, True), kept)
    return b.pointwise(zero, weights, top, kind=weights.kind, compute=weights.kind)


@operation("aten._softmax.default", "aten.softmax.int", "aten._log_softmax.default", "aten.log_softmax.int")
def _softmax(b: Builder, x: Tensor, dim: int, *args: Any, **kwargs: Any) -> Tensor:
    kind = b.out_kind()
    x = b.cast(x, kind)
    axes = axes_of(dim, len(x.shape))
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    top = b.reshape(extreme(b, x, axes, True), kept)
    exp, log = elementary("exp"), elementary("log")
    centred = b.pointwise(lambda k, u, m: k.sub(u, m), x, top, kind=kind, compute=kind, shape=x.shape)
    weights = b.pointwise(exp, centred, kind=kind, compute=kind, cost=25)
    summed = b.reshape(total(b, weights, axes, kind), kept)
    if "log_softmax" in b.current.op:
        logged = b.pointwise(log, summed, kind=kind, compute=kind, cost=30)
        return b.pointwise(
            lambda k, u, s: k.sub(u, s), centred, logged, kind=kind, compute=kind, shape=x.shape
        )
    return b.pointwise(
        lambda k, u, s: k.div(u, s), weights, summed, kind=kind, compute=kind, shape=x.shape, cost=4
    )


@operation("aten._softmax_backward_data.default")
def _softmax_backward(b: Builder, grad: Tensor, output: Tensor, dim: int, input_dtype: Any) -> Tensor:
    kind = b.out_kind()
    axes = axes_of(dim, len(output.shape))
    kept = [1 if axis in axes else size for axis, size in enumerate(output.shape)]
    products = b.pointwise(lambda k, g, o: k.mul(g, o), grad, output, kind=kind, compute=kind)
    summed = b.reshape(total(b, products, axes, kind), kept)
    return b.pointwise(
        lambda k, p, o, s: k.sub(p, k.mul(o, s)), products, output, summed, kind=kind, compute=kind, cost=2
    )


@operation("aten._log_softmax_backward_data.default")
def _log_softmax_backward(b: Builder, grad: Tensor, output: Tensor, dim: int, input_dtype: Any) -> Tensor:
    kind = b.out_kind()
    axes = axes_of(dim, len(output.shape))
    kept = [1 if axis in axes else size for axis, size in enumerate(output.shape)]
    summed = b.reshape(total(b, grad, axes, kind), kept)
    weights = b.pointwise(elementary("exp"), output, kind=kind, compute=kind, cost=25)
    return b.pointwise(
        lambda k, g, w, s: k.sub(g, k.mul(w, s)), grad, weights, summed, kind=kind, compute=kind, cost=2
    )
