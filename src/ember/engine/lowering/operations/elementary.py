"""Lower elementary functions of one argument, copies and casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .. import mathematics, single  # noqa: F401 - fills the table of functions
from ..builder import Builder, operation
from ..elements import Reg, const
from ..kernel import Kernel
from ..tensors import Map, Tensor
from .selection import clip


def elementary(which: str) -> Callable[[Kernel, Reg], Reg]:
    """Return an inlined elementary function, computed in float64; to the digits of float32 if that is all."""

    def apply(k: Kernel, x: Reg) -> Reg:
        if x.kind == "f32" and f"{which}.f32" in mathematics.FUNCTIONS:
            return mathematics.call(k, f"{which}.f32", x, "f32")
        return k.convert(mathematics.call(k, which, k.convert(x, "f64")), x.kind)

    return apply


# One line per function of one argument: name → (function of kernel and element, cost).
UNARY: dict[str, tuple[Callable[[Kernel, Reg], Reg], int]] = {
    "exp": (elementary("exp"), 25),
    "expm1": (elementary("expm1"), 30),
    "log": (elementary("log"), 30),
    "log1p": (elementary("log1p"), 35),
    "sigmoid": (elementary("sigmoid"), 35),
    "tanh": (elementary("tanh"), 40),
    "exp2": (lambda k, x: elementary("exp")(k, k.mul(x, const(math.log(2.0), x.kind))), 25),
    "log2": (lambda k, x: k.mul(elementary("log")(k, x), const(1 / math.log(2.0), x.kind)), 30),
    "log10": (lambda k, x: k.mul(elementary("log")(k, x), const(1 / math.log(10.0), x.kind)), 30),
    "sqrt": (lambda k, x: k.unary("sqrt", x), 5),
    "rsqrt": (lambda k, x: k.div(const(1.0, x.kind), k.unary("sqrt", x)), 8),
    "reciprocal": (lambda k, x: k.div(const(1.0, x.kind), x), 4),
    "logit": (
        lambda k, x: elementary("log")(k, k.div(x, k.sub(const(1.0, x.kind), x))),
        35,
    ),
}


def _register_unary(name: str, function: Callable[[Kernel, Reg], Reg], cost: int) -> None:
    def lower(b: Builder, x: Tensor) -> Map:
        return b.pointwise(function, x, compute=b.out_kind(), cost=cost)

    operation(f"aten.{name}.default")(lower)


for _name, (_function, _cost) in UNARY.items():
    if _name != "logit":
        _register_unary(_name, _function, _cost)


@operation("aten.logit.default", "aten.special_logit.default")
def _logit(b: Builder, x: Tensor, eps: float | None = None) -> Map:
    function, cost = UNARY["logit"]

    def apply(k: Kernel, element: Reg) -> Reg:
        if eps is not None:
            element = clip(k, element, const(eps, element.kind), const(1 - eps, element.kind))
        return function(k, element)

    return b.pointwise(apply, x, compute=b.out_kind(), cost=cost)


@operation("aten.clone.default", "aten.contiguous.default", "aten.alias.default", "aten.detach.default")
def _same(b: Builder, x: Tensor, memory_format: Any = None) -> Tensor:
    return x


@operation("aten._to_copy.default", "aten.to.dtype", "aten._conj_physical.default")
def _to_copy(b: Builder, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    device = kwargs.get("device")
    if device is not None and torch.device(device).type != "cpu":
        raise b.refuse(f"it moves a tensor to {device}")
    return b.cast(x, b.out_kind())
