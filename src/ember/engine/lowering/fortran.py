"""Call Fortran routines, and put constants into the module for them and for loops to read."""

from __future__ import annotations

from .elements import BYTES, LLVM, MEMORY, literal
from .tensors import Tensor
from .text import Text


def integer(t: Text, value: int) -> str:
    """Return the address of a constant 32-bit integer, as Fortran wants its arguments."""
    name = f"@i32.{value}" if value >= 0 else f"@i32.m{-value}"
    t.module.globals[name] = f"{name} = private unnamed_addr constant i32 {value}, align 4"
    return name


def character(t: Text, char: str) -> str:
    """Return the address of a constant character."""
    name = f"@char.{char}"
    t.module.globals[name] = f'{name} = private unnamed_addr constant [2 x i8] c"{char}\\00", align 1'
    return name


def number(t: Text, value: float, kind: str) -> str:
    """Return the address of a constant number."""
    bits = literal(value, kind)
    name = f"@{kind}.{bits}"
    t.module.globals[name] = f"{name} = private unnamed_addr constant {LLVM[kind]} {bits}, align 8"
    return name


def call(t: Text, library: str, name: str, *arguments: str) -> None:
    """Call a BLAS or LAPACK routine; all arguments are addresses."""
    symbol = f"ember_{library}_{name}"
    t.module.declare(symbol, f"void %s({', '.join(['ptr'] * len(arguments))})")
    t.module.symbols.add(f"{library}.{name}")
    t.line(f"call void @{symbol}({', '.join('ptr ' + argument for argument in arguments)})")


def array(t: Text, tensor: Tensor) -> None:
    """Put a small constant into the code."""
    name = f"@c{len(t.module.globals)}"
    cell = MEMORY[tensor.kind]
    values = tensor.constant.reshape(-1).tolist()
    items = ", ".join(f"{cell} {int(v) if tensor.kind == 'i1' else literal(v, tensor.kind)}" for v in values)
    t.module.globals[name] = (
        f"{name} = private unnamed_addr constant [{len(values)} x {cell}] [{items}], "
        f"align {max(BYTES[tensor.kind], 8)}"
    )
    tensor.storage = ("global", name)
