"""Lower comparisons, logic and operations on bits."""

from __future__ import annotations

import math
from collections.abc import Callable

from .. import conditions
from ..builder import Builder, Operand, operation
from ..elements import BITS, Reg, const, is_float
from ..kernel import Kernel
from ..tensors import Map, Tensor


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
            fits = conditions.conjunction(k, low, k.compare("lt", v, const(bits, v.kind)))
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
