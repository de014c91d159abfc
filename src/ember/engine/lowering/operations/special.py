"""Lower trigonometric and special functions."""

from __future__ import annotations

import math
from collections.abc import Callable

from .. import conditions
from ..builder import Builder, Number, operation
from ..elements import Reg, const
from ..foreign import LIBM, SCIPY, external
from ..gamma_functions import polygamma
from ..kernel import Kernel
from ..tensors import Map, Tensor
from .elementary import elementary


def _register_external(op: str, library: str, name: str, cost: int = 100) -> None:
    def lower(b: Builder, *xs: Tensor) -> Map:
        return b.pointwise(
            lambda k, *regs: external(k, library, name, *regs), *xs, compute=b.out_kind(), cost=cost
        )

    operation(f"aten.{op}.default")(lower)


for _op in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "atan2"):
    _register_external(_op, LIBM, _op)


_register_external("hypot", LIBM, "hypot")
_register_external("nextafter", LIBM, "nextafter")


# torch's name → SciPy's.
_SPECIAL = {
    "erf": "erf",
    "special_erf": "erf",
    "erfc": "erfc",
    "special_erfc": "erfc",
    "erfinv": "erfinv",
    "special_erfinv": "erfinv",
    "special_erfcx": "erfcx",
    "special_ndtr": "ndtr",
    "special_log_ndtr": "log_ndtr",
    "special_i0": "i0",
    "i0": "i0",
    "special_i0e": "i0e",
    "special_i1": "i1",
    "special_i1e": "i1e",
    "special_bessel_j0": "j0",
    "special_bessel_j1": "j1",
    "special_bessel_y0": "y0",
    "special_bessel_y1": "y1",
    "special_modified_bessel_i0": "i0",
    "special_modified_bessel_i1": "i1",
    "special_modified_bessel_k0": "k0",
    "special_modified_bessel_k1": "k1",
    "special_scaled_modified_bessel_k0": "k0e",
    "special_scaled_modified_bessel_k1": "k1e",
}


for _op, _name in _SPECIAL.items():
    _register_external(_op, SCIPY, _name)


_register_external("special_gammainc", SCIPY, "gammainc")
_register_external("special_gammaincc", SCIPY, "gammaincc")
_register_external("igamma", SCIPY, "gammainc")
_register_external("igammac", SCIPY, "gammaincc")


def _register_vector(op: str, name: str, cost: int) -> None:
    function = elementary(name)
    operation(f"aten.{op}.default")(lambda b, x: b.pointwise(function, x, compute=b.out_kind(), cost=cost))


for _op in ("lgamma", "special_gammaln"):
    _register_vector(_op, "lgamma", 110)


for _op in ("digamma", "special_digamma"):
    _register_vector(_op, "digamma", 110)


_register_vector("special_ndtri", "ndtri", 110)


@operation("aten.polygamma.default", "aten.special_polygamma.default")
def _polygamma(b: Builder, order: int, x: Tensor) -> Map:
    function = elementary("digamma" if order == 0 else polygamma(order))
    return b.pointwise(function, x, compute=b.out_kind(), cost=120)


@operation("aten.mvlgamma.default")
def _mvlgamma(b: Builder, x: Tensor, p: int) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        total = const(p * (p - 1) / 4 * math.log(math.pi), u.kind)
        for position in range(p):
            total = k.add(total, elementary("lgamma")(k, k.sub(u, const(position / 2, u.kind))))
        return total

    return b.pointwise(apply, x, compute=b.out_kind(), cost=110 * p)


def _register_sinc() -> None:
    def apply(k: Kernel, x: Reg) -> Reg:
        scaled = k.mul(x, const(math.pi, x.kind))
        value = k.div(external(k, LIBM, "sin", scaled), scaled)
        return k.select(k.compare("eq", x, const(0.0, x.kind)), const(1.0, x.kind), value)

    operation("aten.sinc.default", "aten.special_sinc.default")(
        lambda b, x: b.pointwise(apply, x, compute=b.out_kind(), cost=110)
    )


_register_sinc()


# Products with logarithms ---------------------------------------------------------------------------------
def _register_log_product(names: list[str], which: str) -> None:
    @operation(*names)
    def lower(b: Builder, x: Tensor | Number, y: Tensor | Number) -> Map:
        def apply(k: Kernel, u: Reg, v: Reg) -> Reg:
            value = k.mul(u, elementary(which)(k, v))
            zero = conditions.conjunction(k, k.compare("eq", u, const(0.0, u.kind)), k.invert(k.isnan(v)))
            return k.select(zero, const(0.0, u.kind), value)

        return b.pointwise(apply, x, y, compute=b.out_kind(), cost=35)


_register_log_product(
    [f"aten.{name}.{form}" for name, forms in (
        ("xlogy", ("Tensor", "Scalar_Self", "Scalar_Other")),
        ("special_xlogy", ("default", "self_scalar", "other_scalar")),
    ) for form in forms],
    "log",
)  # fmt: skip


_register_log_product(
    [f"aten.special_xlog1py.{f}" for f in ("default", "self_scalar", "other_scalar")], "log1p"
)


@operation("aten.special_entr.default")
def _entr(b: Builder, x: Tensor) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        value = k.neg(k.mul(u, elementary("log")(k, u)))
        value = k.select(k.compare("eq", u, const(0.0, u.kind)), const(0.0, u.kind), value)
        return k.select(k.compare("lt", u, const(0.0, u.kind)), const(-math.inf, u.kind), value)

    return b.pointwise(apply, x, compute=b.out_kind(), cost=35)


@operation("aten.logit_backward.default")
def _logit_backward(b: Builder, grad: Tensor, x: Tensor, eps: float | None = None) -> Map:
    def apply(k: Kernel, g: Reg, u: Reg) -> Reg:
        one, zero = const(1.0, u.kind), const(0.0, u.kind)
        value = k.div(g, k.mul(u, k.sub(one, u)))
        low, high = (0.0, 1.0) if eps is None else (eps, 1.0 - eps)
        outside = k.binary(
            "or", k.compare("lt", u, const(low, u.kind)), k.compare("gt", u, const(high, u.kind))
        )
        return k.select(outside, const(math.nan, u.kind) if eps is None else zero, value)

    return b.pointwise(apply, grad, x, cost=8)


def _register_shrink(name: str, shrunk: Callable[[Kernel, Reg, Reg], Reg]) -> None:
    @operation(f"aten.{name}.default")
    def lower(b: Builder, x: Tensor, lambd: float = 0.5) -> Map:
        def apply(k: Kernel, u: Reg) -> Reg:
            limit = const(lambd, u.kind)
            inside = k.compare("le", k.unary("fabs", u), limit)
            return k.select(inside, const(0.0, u.kind), shrunk(k, u, limit))

        return b.pointwise(apply, x, cost=4)


def _towards_zero(k: Kernel, u: Reg, limit: Reg) -> Reg:
    return k.select(k.compare("gt", u, const(0.0, u.kind)), k.sub(u, limit), k.add(u, limit))


_register_shrink("hardshrink", lambda k, u, limit: u)
_register_shrink("softshrink", _towards_zero)


def _register_factor(name: str, factor: float) -> None:
    operation(f"aten.{name}.default")(
        lambda b, x: b.pointwise(lambda k, u: k.mul(u, const(factor, u.kind)), x, compute=b.out_kind())
    )


_register_factor("deg2rad", math.pi / 180)
_register_factor("rad2deg", 180 / math.pi)
