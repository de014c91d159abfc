"""Lower arithmetic: sums, products, quotients and remainders, with torch's rules of rounding and division."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..builder import Builder, Number, Operand, operation
from ..elements import Reg, const, is_float
from ..kernel import Kernel
from ..tensors import Map, Tensor


# Arithmetic -----------------------------------------------------------------------------------------------
def _scaled(k: Kernel, x: Reg, alpha: Number) -> Reg:
    return x if alpha == 1 else k.mul(x, const(alpha, x.kind))


@operation("aten.add.Tensor", "aten.add.Scalar")
def _add(b: Builder, x: Operand, y: Operand, alpha: Number = 1) -> Map:
    if b.out_kind() == "i1":
        return b.pointwise(lambda k, u, v: k.binary("or", u, v), x, y, compute="i1")
    return b.pointwise(lambda k, u, v: k.add(u, _scaled(k, v, alpha)), x, y)


@operation("aten.sub.Tensor", "aten.sub.Scalar")
def _sub(b: Builder, x: Operand, y: Operand, alpha: Number = 1) -> Map:
    return b.pointwise(lambda k, u, v: k.sub(u, _scaled(k, v, alpha)), x, y)


@operation("aten.rsub.Tensor", "aten.rsub.Scalar")
def _rsub(b: Builder, x: Operand, y: Operand, alpha: Number = 1) -> Map:
    return b.pointwise(lambda k, u, v: k.sub(v, _scaled(k, u, alpha)), x, y)


@operation("aten.mul.Tensor", "aten.mul.Scalar")
def _mul(b: Builder, x: Operand, y: Operand) -> Map:
    if b.out_kind() == "i1":
        return b.pointwise(lambda k, u, v: k.binary("and", u, v), x, y, compute="i1")
    return b.pointwise(lambda k, u, v: k.mul(u, v), x, y)


def round_float(k: Kernel, x: Reg, which: str) -> Reg:
    return k.unary(which, x) if is_float(x.kind) else x


def integer_divide(k: Kernel, x: Reg, y: Reg, rounding: str, remainder: bool = False) -> Reg:
    """Divide integers, truncating or flooring; division by zero gives zero rather than a trap."""
    zero, one = const(0, y.kind), const(1, y.kind)
    unsigned = y.kind == "u8"
    safe = k.select(k.compare("eq", y, zero), one, y)
    if not unsigned:
        # The most negative number divided by -1 would trap; negation wraps instead.
        minus = k.compare("eq", safe, const(-1, y.kind))
        safe = k.select(minus, one, safe)
        x_safe = k.select(minus, k.sub(zero, x), x)
    else:
        x_safe = x
    quotient = k.binary("udiv" if unsigned else "sdiv", x_safe, safe)
    if unsigned:
        return k.sub(x, k.mul(quotient, y)) if remainder else quotient
    rest = k.sub(x, k.mul(quotient, y))
    if rounding == "floor":
        differ = k.compare("lt", k.binary("xor", rest, y), zero)
        adjust = k.binary("and", k.compare("ne", rest, zero), differ)
        quotient = k.select(adjust, k.sub(quotient, one), quotient)
        rest = k.select(adjust, k.add(rest, y), rest)
    return rest if remainder else quotient


def float_floor_divide(k: Kernel, x: Reg, y: Reg) -> Reg:
    """Divide floats rounding down, as torch and Python do: from the exact remainder."""
    mod = k.arith("rem", x, y)
    quotient = k.div(k.sub(x, mod), y)
    zero, one = const(0.0, x.kind), const(1.0, x.kind)
    differ = k.binary("xor", k.compare("lt", mod, zero), k.compare("lt", y, zero))
    adjust = k.binary("and", k.compare("ne", mod, zero), differ)
    quotient = k.select(adjust, k.sub(quotient, one), quotient)
    floor = k.unary("floor", quotient)
    floor = k.select(k.compare("gt", k.sub(quotient, floor), const(0.5, x.kind)), k.add(floor, one), floor)
    lanes, texts = k.align(zero if floor.lanes == 1 else k.splat(zero, floor.lanes), k.div(x, y))
    signed_zero = k.intrinsic("copysign", x.kind, lanes, texts)
    floor = k.select(k.compare("eq", quotient, zero), signed_zero, floor)
    return k.select(k.compare("eq", y, zero), k.div(x, y), floor)


@operation("aten.div.Tensor", "aten.div.Scalar", "aten.div.Tensor_mode", "aten.div.Scalar_mode")
def _div(b: Builder, x: Operand, y: Operand, rounding_mode: str | None = None) -> Map:
    def apply(k: Kernel, u: Reg, v: Reg) -> Reg:
        if rounding_mode is None:
            return k.div(u, v)
        if not is_float(u.kind):
            return integer_divide(k, u, v, rounding_mode)
        if rounding_mode == "trunc":
            return round_float(k, k.div(u, v), "trunc")
        return float_floor_divide(k, u, v)

    if not isinstance(y, Tensor) and rounding_mode is None and y != 0 and math.frexp(abs(float(y)))[0] == 0.5:
        return b.pointwise(lambda k, u: k.mul(u, const(1.0 / y, u.kind)), x)
    return b.pointwise(apply, x, y, cost=4)


@operation("aten.floor_divide.default", "aten.floor_divide.Scalar")
def _floor_divide(b: Builder, x: Operand, y: Operand) -> Map:
    return _div(b, x, y, "floor")


@operation("aten.remainder.Tensor", "aten.remainder.Scalar", "aten.remainder.Scalar_Tensor")
def _remainder(b: Builder, x: Operand, y: Operand) -> Map:
    def apply(k: Kernel, u: Reg, v: Reg) -> Reg:
        if not is_float(u.kind):
            return integer_divide(k, u, v, "floor", remainder=True)
        zero = const(0.0, u.kind)
        mod = k.arith("rem", u, v)
        differ = k.binary("xor", k.compare("lt", mod, zero), k.compare("lt", v, zero))
        adjust = k.binary("and", k.compare("ne", mod, zero), differ)
        return k.select(adjust, k.add(mod, v), mod)

    return b.pointwise(apply, x, y, cost=20)


@operation("aten.fmod.Tensor", "aten.fmod.Scalar")
def _fmod(b: Builder, x: Operand, y: Operand) -> Map:
    def apply(k: Kernel, u: Reg, v: Reg) -> Reg:
        return k.arith("rem", u, v) if is_float(u.kind) else integer_divide(k, u, v, "trunc", remainder=True)

    return b.pointwise(apply, x, y, cost=20)


def _register_simple(name: str, function: Callable[[Kernel, Reg], Reg], cost: int = 1) -> None:
    operation(f"aten.{name}.default")(lambda b, x: b.pointwise(function, x, cost=cost))


def _abs(k: Kernel, x: Reg) -> Reg:
    if is_float(x.kind):
        return k.unary("fabs", x)
    if x.kind in ("u8", "i1"):
        return x
    return k.select(k.compare("lt", x, const(0, x.kind)), k.neg(x), x)


def sign(k: Kernel, x: Reg) -> Reg:
    if x.kind == "i1":
        return x
    zero = const(0, x.kind)
    positive = k.convert(k.compare("gt", x, zero), x.kind)
    return positive if x.kind == "u8" else k.sub(positive, k.convert(k.compare("lt", x, zero), x.kind))


def _nan_sign(k: Kernel, x: Reg) -> Reg:
    return sign(k, x)


_register_simple("neg", lambda k, x: k.neg(x))
_register_simple("abs", _abs)
_register_simple("sign", _nan_sign, 3)
_register_simple("sgn", _nan_sign, 3)
_register_simple("floor", lambda k, x: round_float(k, x, "floor"))
_register_simple("ceil", lambda k, x: round_float(k, x, "ceil"))
_register_simple("trunc", lambda k, x: round_float(k, x, "trunc"))
_register_simple("round", lambda k, x: round_float(k, x, "roundeven"))
_register_simple("frac", lambda k, x: k.sub(x, k.unary("trunc", x)), 2)
_register_simple("square", lambda k, x: k.mul(x, x))
_register_simple("positive", lambda k, x: x)
_register_simple("clone", lambda k, x: x, 0)
_register_simple("alias", lambda k, x: x, 0)
_register_simple("detach", lambda k, x: x, 0)
_register_simple("lift_fresh_copy", lambda k, x: x, 0)
_register_simple(
    "bitwise_not", lambda k, x: k.binary("xor", x, const(-1 if x.kind != "i1" else True, x.kind))
)
