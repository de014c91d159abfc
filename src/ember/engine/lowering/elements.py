"""Name the kinds of tensor elements and write their constants in LLVM's notation."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import torch

KINDS: dict[torch.dtype, str] = {
    torch.float64: "f64",
    torch.float32: "f32",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.bool: "i1",
}


DTYPES = {kind: dtype for dtype, kind in KINDS.items()}
LLVM = {
    "f64": "double",
    "f32": "float",
    "i64": "i64",
    "i32": "i32",
    "i16": "i16",
    "i8": "i8",
    "u8": "i8",
    "i1": "i1",
}


BITS = {"f64": 64, "f32": 32, "i64": 64, "i32": 32, "i16": 16, "i8": 8, "u8": 8, "i1": 1}
# A bool occupies one byte in memory and one bit in registers.
BYTES = {kind: max(bits // 8, 1) for kind, bits in BITS.items()}
MEMORY = {kind: "i8" if kind == "i1" else name for kind, name in LLVM.items()}


class Reg(NamedTuple):
    """A typed LLVM operand: one element, or one per lane."""

    text: str
    kind: str
    lanes: int = 1
    const: int | float | bool | None = None


def is_float(kind: str) -> bool:
    """Say whether a kind is a floating-point one."""
    return kind in ("f64", "f32")


def type_name(kind: str, lanes: int = 1) -> str:
    """Return LLVM's name of the register type of ``lanes`` elements."""
    return LLVM[kind] if lanes == 1 else f"<{lanes} x {LLVM[kind]}>"


def literal(value: int | float | bool, kind: str) -> str:
    """Write a constant in LLVM's notation, exactly."""
    if is_float(kind):
        number = float(value)
        if kind == "f32" and abs(number) != float("inf"):
            try:
                number = struct.unpack("<f", struct.pack("<f", number))[0]
            except OverflowError:
                number = float("inf") if number > 0 else float("-inf")
        return "0x" + struct.pack(">d", number).hex().upper()
    if kind == "i1":
        return "true" if value else "false"
    bits = BITS[kind]
    word = int(value) & ((1 << bits) - 1)
    return str(word - (1 << bits) if word >> (bits - 1) else word)


def const(value: int | float | bool, kind: str) -> Reg:
    """Make a constant operand."""
    return Reg(literal(value, kind), kind, 1, value)


def operand(reg: Reg, lanes: int) -> str:
    """Write ``reg`` as an operand of ``lanes`` lanes; only constants may be widened here."""
    if reg.lanes == lanes:
        return reg.text
    return f"splat ({LLVM[reg.kind]} {reg.text})"


def vector_literal(values: Sequence[int], kind: str) -> str:
    """Write a constant vector."""
    return "<" + ", ".join(f"{LLVM[kind]} {literal(value, kind)}" for value in values) + ">"
