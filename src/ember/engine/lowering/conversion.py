"""Convert elements from one kind to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .elements import BITS, Reg, const, is_float, operand, type_name

if TYPE_CHECKING:
    from .text import Text


def convert(t: Text, a: Reg, kind: str) -> Reg:
    """Convert elements to another kind as torch does."""
    if a.kind == kind:
        return a
    if a.const is not None and a.lanes == 1:
        value = a.const
        if kind == "i1":
            return const(bool(value), kind)
        if is_float(kind):
            return const(float(value), kind)
        if not is_float(a.kind):
            return const(int(value), kind)
    source, target = type_name(a.kind, a.lanes), type_name(kind, a.lanes)
    text = operand(a, a.lanes)
    if kind == "i1":
        zero = const(0.0 if is_float(a.kind) else 0, a.kind)
        return t.compare("ne", a, zero)
    if is_float(a.kind) and is_float(kind):
        opcode = "fpext" if kind == "f64" else "fptrunc"
    elif is_float(a.kind):
        # Through 64 bits, as the conversion instructions do.
        wide = to_integer(t, a)
        return convert(t, wide, kind)
    elif is_float(kind):
        opcode = "uitofp" if a.kind in ("u8", "i1") else "sitofp"
    elif BITS[kind] < BITS[a.kind]:
        opcode = "trunc"
    elif BITS[kind] == BITS[a.kind]:
        return a._replace(kind=kind)
    else:
        opcode = "zext" if a.kind in ("u8", "i1") else "sext"
    return t.pure(f"{opcode} {source} {text} to {target}", kind, a.lanes)


def to_integer(t: Text, a: Reg) -> Reg:
    """Truncate floats to int64; what does not fit becomes the smallest integer, as on x86."""
    source, target = type_name(a.kind, a.lanes), type_name("i64", a.lanes)
    fits = t.compare("lt", t.unary("fabs", a), const(2.0**63, a.kind))
    safe = t.select(fits, a, const(0.0, a.kind))
    number = t.pure(f"fptosi {source} {operand(safe, a.lanes)} to {target}", "i64", a.lanes)
    return t.select(fits, number, const(-(2**63), "i64"))
