"""Lower pointwise ATen operations: arithmetic, comparisons, logic, casts and elementary functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from . import mathematics
from .builder import Builder, Number, broadcast_index, operation
from .elements import BITS, Reg, const, is_float, operand, type_name
from .kernel import Kernel
from .tensors import Map, Tensor, broadcast, broadcast_level

Operand = Tensor | Number


def elementary(which: str) -> Callable[[Kernel, Reg], Reg]:
    """Return an inlined elementary function, computed in float64."""

    def apply(k: Kernel, x: Reg) -> Reg:
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
            element = _clip(k, element, const(eps, element.kind), const(1 - eps, element.kind))
        return function(k, element)

    return b.pointwise(apply, x, compute=b.out_kind(), cost=cost)


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


def _round(k: Kernel, x: Reg, which: str) -> Reg:
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
            return _round(k, k.div(u, v), "trunc")
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


def _sign(k: Kernel, x: Reg) -> Reg:
    if x.kind == "i1":
        return x
    zero = const(0, x.kind)
    positive = k.convert(k.compare("gt", x, zero), x.kind)
    return positive if x.kind == "u8" else k.sub(positive, k.convert(k.compare("lt", x, zero), x.kind))


def _nan_sign(k: Kernel, x: Reg) -> Reg:
    return _sign(k, x)


_register_simple("neg", lambda k, x: k.neg(x))
_register_simple("abs", _abs)
_register_simple("sign", _nan_sign, 3)
_register_simple("sgn", _nan_sign, 3)
_register_simple("floor", lambda k, x: _round(k, x, "floor"))
_register_simple("ceil", lambda k, x: _round(k, x, "ceil"))
_register_simple("trunc", lambda k, x: _round(k, x, "trunc"))
_register_simple("round", lambda k, x: _round(k, x, "roundeven"))
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


@operation("aten.clone.default", "aten.contiguous.default", "aten.alias.default", "aten.detach.default")
def _same(b: Builder, x: Tensor, memory_format: Any = None) -> Tensor:
    return x


@operation("aten._to_copy.default", "aten.to.dtype", "aten._conj_physical.default")
def _to_copy(b: Builder, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    device = kwargs.get("device")
    if device is not None and torch.device(device).type != "cpu":
        raise b.refuse(f"it moves a tensor to {device}")
    return b.cast(x, b.out_kind())


# Comparison and logic -------------------------------------------------------------------------------------
def _register_comparison(name: str) -> None:
    @operation(f"aten.{name}.Tensor", f"aten.{name}.Scalar")
    def lower(b: Builder, x: Operand, y: Operand) -> Map:
        return b.pointwise(lambda k, u, v: k.compare(name, u, v), x, y, compute=b.promote(x, y))


for _each in ("eq", "ne", "lt", "le", "gt", "ge"):
    _register_comparison(_each)


def _register_logical(name: str, opcode: str) -> None:
    @operation(f"aten.logical_{name}.default")
    def lower(b: Builder, x: Operand, y: Operand) -> Map:
        return b.pointwise(lambda k, u, v: k.binary(opcode, u, v), x, y, compute="i1")


def _register_bitwise(name: str, opcode: str) -> None:
    @operation(
        f"aten.bitwise_{name}.Tensor",
        f"aten.bitwise_{name}.Scalar",
        f"aten.bitwise_{name}.Scalar_Tensor",
        f"aten.__{name}__.Tensor",
        f"aten.__{name}__.Scalar",
    )
    def lower(b: Builder, x: Operand, y: Operand) -> Map:
        return b.pointwise(lambda k, u, v: k.binary(opcode, u, v), x, y, compute=b.out_kind())


for _each in ("and", "or", "xor"):
    _register_logical(_each, _each)
    _register_bitwise(_each, _each)


@operation("aten.logical_not.default")
def _logical_not(b: Builder, x: Tensor) -> Map:
    return b.pointwise(lambda k, u: k.invert(u), x, compute="i1")


def _register_shift(name: str, opcode: str) -> None:
    @operation(
        f"aten.bitwise_{name}_shift.Tensor",
        f"aten.bitwise_{name}_shift.Tensor_Scalar",
        f"aten.bitwise_{name}_shift.Scalar_Tensor",
        f"aten.__{name[0]}shift__.Tensor",
        f"aten.__{name[0]}shift__.Scalar",
    )
    def lower(b: Builder, x: Operand, y: Operand) -> Map:
        def apply(k: Kernel, u: Reg, v: Reg) -> Reg:
            bits = BITS[u.kind]
            low = k.compare("ge", v, const(0, v.kind)) if v.kind != "u8" else const(True, "i1")
            fits = k.conjunction(low, k.compare("lt", v, const(bits, v.kind)))
            code = "lshr" if opcode == "ashr" and u.kind == "u8" else opcode
            if opcode == "shl":
                return k.select(
                    fits, k.binary("shl", u, k.select(fits, v, const(0, v.kind))), const(0, u.kind)
                )
            largest = const(bits - 1, v.kind)
            return (
                k.binary(code, u, k.select(fits, v, largest))
                if code == "ashr"
                else k.select(fits, k.binary(code, u, k.select(fits, v, const(0, v.kind))), const(0, u.kind))
            )

        return b.pointwise(apply, x, y, cost=4)


_register_shift("left", "shl")
_register_shift("right", "ashr")


@operation("aten.isnan.default")
def _isnan(b: Builder, x: Tensor) -> Map:
    if not is_float(x.kind):
        return b.full(x.shape, False, "i1")
    return b.pointwise(lambda k, u: k.isnan(u), x, compute=x.kind)


def _register_infinite(name: str, apply: Callable[[Kernel, Reg, Reg], Reg], otherwise: bool) -> None:
    @operation(f"aten.{name}.default")
    def lower(b: Builder, x: Tensor) -> Map:
        if not is_float(x.kind):
            return b.full(x.shape, otherwise, "i1")
        return b.pointwise(lambda k, u: apply(k, u, const(math.inf, u.kind)), x, compute=x.kind, cost=2)


_register_infinite("isinf", lambda k, x, inf: k.compare("eq", k.unary("fabs", x), inf), False)
_register_infinite("isfinite", lambda k, x, inf: k.compare("lt", k.unary("fabs", x), inf), True)
_register_infinite("isposinf", lambda k, x, inf: k.compare("eq", x, inf), False)
_register_infinite("isneginf", lambda k, x, inf: k.compare("eq", x, k.neg(inf)), False)


@operation("aten.signbit.default")
def _signbit(b: Builder, x: Tensor) -> Map:
    def apply(k: Kernel, u: Reg) -> Reg:
        if is_float(u.kind):
            integer = "i64" if u.kind == "f64" else "i32"
            return k.compare("lt", k.bitcast(u, integer), const(0, integer))
        return const(False, "i1") if u.kind in ("u8", "i1") else k.compare("lt", u, const(0, u.kind))

    return b.pointwise(apply, x, compute=x.kind)


# Selection ------------------------------------------------------------------------------------------------
@operation("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def _where(b: Builder, condition: Tensor, x: Operand, y: Operand) -> Map:
    kind = b.out_kind()

    def apply(k: Kernel, c: Reg, u: Reg, v: Reg) -> Reg:
        return k.select(k.convert(c, "i1"), k.convert(u, kind), k.convert(v, kind))

    x = b.full((), x, kind) if not isinstance(x, Tensor) else b.cast(x, kind)
    y = b.full((), y, kind) if not isinstance(y, Tensor) else b.cast(y, kind)
    return mixed(b, apply, condition, x, y)


def mixed(
    b: Builder, function: Callable[..., Reg], *operands: Tensor, cost: int = 1, kind: str | None = None
) -> Map:
    """Apply a function to elements of different kinds, with broadcasting."""
    shape = broadcast(*(op.shape for op in operands))
    pairs = [(op, broadcast_level(op.shape, shape)) for op in operands]
    return b.map(
        shape,
        kind or b.out_kind(),
        pairs,
        lambda k, index: function(k, *(k.read(op, broadcast_index(op, index, shape)) for op in operands)),
        cost,
    )


@operation("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def _masked_fill(b: Builder, x: Tensor, mask: Tensor, value: Operand) -> Map:
    filler = b.full((), value, x.kind) if not isinstance(value, Tensor) else b.cast(value, x.kind)
    return mixed(b, lambda k, c, u, v: k.select(c, v, u), mask, x, filler)


def _extreme(k: Kernel, a: Reg, c: Reg, which: str) -> Reg:
    """Return the larger ("gt") or smaller ("lt") of two; NaN wins."""
    if not is_float(a.kind):
        return k.select(k.compare(which, a, c), a, c)
    chosen = k.select(k.compare(which, a, c), a, c)
    return k.select(k.isnan(a), a, chosen)


def maximum(k: Kernel, a: Reg, c: Reg) -> Reg:
    """The larger of two, NaN if either is."""
    return _extreme(k, a, c, "gt")


def minimum(k: Kernel, a: Reg, c: Reg) -> Reg:
    """The smaller of two, NaN if either is."""
    return _extreme(k, a, c, "lt")


@operation("aten.maximum.default", "aten.max.other")
def _maximum(b: Builder, x: Tensor, y: Tensor) -> Map:
    return b.pointwise(maximum, x, y, cost=3, compute=b.out_kind())


@operation("aten.minimum.default", "aten.min.other")
def _minimum(b: Builder, x: Tensor, y: Tensor) -> Map:
    return b.pointwise(minimum, x, y, cost=3, compute=b.out_kind())


@operation("aten.fmax.default")
def _fmax(b: Builder, x: Tensor, y: Tensor) -> Map:
    return b.pointwise(lambda k, u, v: _ignore_nan(k, u, v, "gt"), x, y, cost=3, compute=b.out_kind())


@operation("aten.fmin.default")
def _fmin(b: Builder, x: Tensor, y: Tensor) -> Map:
    return b.pointwise(lambda k, u, v: _ignore_nan(k, u, v, "lt"), x, y, cost=3, compute=b.out_kind())


def _ignore_nan(k: Kernel, a: Reg, c: Reg, which: str) -> Reg:
    if not is_float(a.kind):
        return k.select(k.compare(which, a, c), a, c)
    take_a = k.binary("or", k.compare(which, a, c), k.isnan(c))
    return k.select(take_a, a, c)


def _clip(k: Kernel, x: Reg, low: Reg | None, high: Reg | None) -> Reg:
    if low is not None:
        x = _extreme_bound(k, x, low, "lt")
    if high is not None:
        x = _extreme_bound(k, x, high, "gt")
    return x


def _extreme_bound(k: Kernel, x: Reg, bound: Reg, which: str) -> Reg:
    x = k.select(k.compare(which, x, bound), bound, x)
    if is_float(bound.kind) and bound.const is None:
        x = k.select(k.isnan(bound), bound, x)
    return x


@operation("aten.clamp.default", "aten.clamp.Tensor", "aten.clamp_min.default", "aten.clamp_min.Tensor")
def _clamp(b: Builder, x: Tensor, min: Operand | None = None, max: Operand | None = None) -> Map:
    bounds = [each for each in (min, max) if each is not None]
    has_low, has_high = min is not None, max is not None

    def apply(k: Kernel, u: Reg, *limits: Reg) -> Reg:
        rest = list(limits)
        low = rest.pop(0) if has_low else None
        high = rest.pop(0) if has_high else None
        return _clip(k, u, low, high)

    return b.pointwise(apply, x, *bounds, cost=2, compute=b.out_kind())


@operation("aten.clamp_max.default", "aten.clamp_max.Tensor")
def _clamp_max(b: Builder, x: Tensor, max: Operand) -> Map:
    return _clamp(b, x, None, max)


@operation("aten.copysign.Tensor", "aten.copysign.Scalar")
def _copysign(b: Builder, x: Operand, y: Operand) -> Map:
    def apply(k: Kernel, u: Reg, v: Reg) -> Reg:
        lanes, texts = k.align(u, v)
        return k.intrinsic("copysign", u.kind, lanes, texts)

    return b.pointwise(apply, x, y, compute=b.out_kind())


__all__ = ["elementary", "maximum", "minimum", "mixed", "operand", "type_name"]
