"""Lower powers and roundings to a number of digits."""

from __future__ import annotations

from ..builder import Builder, Number, operation
from ..elements import Reg, const, is_float
from ..foreign import LIBM, external
from ..kernel import Kernel
from ..tensors import Map, Tensor


# Powers ---------------------------------------------------------------------------------------------------
def power(k: Kernel, x: Reg, exponent: float) -> Reg:
    """Raise floats to a known power, by multiplication where that is as exact as torch's."""
    one = const(1.0, x.kind)
    if exponent == 0:
        return one
    if exponent == 1:
        return x
    if exponent == 2:
        return k.mul(x, x)
    if exponent == 3:
        return k.mul(k.mul(x, x), x)
    if exponent == 0.5:
        return k.unary("sqrt", x)
    if exponent == -0.5:
        return k.div(one, k.unary("sqrt", x))
    if exponent == -1:
        return k.div(one, x)
    if exponent == -2:
        return k.div(one, k.mul(x, x))
    return external(k, LIBM, "pow", x, const(exponent, x.kind))


def _integer_power(k: Kernel, x: Reg, exponent: int) -> Reg:
    result = const(1, x.kind)
    base = x
    while exponent:
        if exponent & 1:
            result = k.mul(result, base)
        base = k.mul(base, base)
        exponent >>= 1
    return result


@operation("aten.pow.Tensor_Scalar")
def _pow_scalar(b: Builder, x: Tensor, exponent: Number) -> Map:
    kind = b.out_kind()
    if is_float(kind):
        cheap = exponent in (0, 1, 2, 3, 0.5, -0.5, -1, -2)
        return b.pointwise(lambda k, u: power(k, u, float(exponent)), x, cost=5 if cheap else 100)
    if kind == "i1" or exponent < 0:
        raise b.refuse(f"the power {exponent} of {kind} elements is not supported")
    return b.pointwise(lambda k, u: _integer_power(k, u, int(exponent)), x, cost=8)


@operation("aten.pow.Tensor_Tensor", "aten.pow.Scalar", "aten.float_power.Tensor_Tensor")
def _pow(b: Builder, x: Tensor | Number, y: Tensor | Number) -> Map:
    if is_float(b.out_kind()):
        return b.pointwise(lambda k, u, v: external(k, LIBM, "pow", u, v), x, y, cost=100)
    raise b.refuse("integer powers with varying exponents are not supported")


@operation("aten.ldexp.Tensor")
def _ldexp(b: Builder, x: Tensor, exponent: Tensor) -> Map:
    return b.pointwise(
        lambda k, u, v: k.mul(u, external(k, LIBM, "exp2", v)), x, exponent, compute=b.out_kind(), cost=30
    )


@operation("aten.round.decimals")
def _round_decimals(b: Builder, x: Tensor, decimals: int) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        if not is_float(u.kind):
            return u
        scale = const(10.0 ** abs(decimals), u.kind)
        if decimals >= 0:
            return k.div(k.unary("roundeven", k.mul(u, scale)), scale)
        return k.mul(k.unary("roundeven", k.div(u, scale)), scale)

    return b.pointwise(apply, x, cost=6)
