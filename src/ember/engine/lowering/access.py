"""Emit loads and stores: of one element, of consecutive ones, or of one per lane."""

from __future__ import annotations

from .elements import BYTES, LLVM, MEMORY, Reg, is_float, operand, type_name
from .text import Text


def address(t: Text, base: str, kind: str, position: Reg) -> str:
    """Compute addresses of elements at positions; one per lane if these differ."""
    if position.const == 0:
        return base
    cell = MEMORY[kind]
    if position.lanes == 1:
        return t.pure(f"getelementptr {cell}, ptr {base}, i64 {position.text}", "i64").text
    rhs = f"getelementptr {cell}, ptr {base}, <{position.lanes} x i64> {position.text}"
    return t.pure(rhs, "i64", position.lanes).text


def load(t: Text, address: str, kind: str, lanes: int, mask: Reg | None, invariant: bool) -> Reg:
    """Load consecutive elements; inactive lanes hold zero."""
    suffix = ", !invariant.load !0" if invariant else ""
    size = BYTES[kind]
    count = _known_count(mask)
    if count is not None and count & (count - 1) == 0 and kind != "i1":
        part = load(t, address, kind, count, None, invariant)
        if count == 1:
            full = f"{type_name(kind, lanes)} zeroinitializer"
            return t.fresh(f"insertelement {full}, {LLVM[kind]} {part.text}, i64 0", kind, lanes)
        zeros = Reg("zeroinitializer", kind, count)
        return t.shuffle_two(part, zeros, list(range(count)) + [count] * (lanes - count))
    if lanes == 1:
        reg = t.fresh(f"load {MEMORY[kind]}, ptr {address}, align {size}{suffix}", kind)
    elif mask is None:
        reg = t.fresh(f"load <{lanes} x {MEMORY[kind]}>, ptr {address}, align {size}{suffix}", kind, lanes)
    else:
        cell = MEMORY[kind]
        short = f"v{lanes}{_suffix(kind)}"
        full = f"<{lanes} x {cell}>"
        name = t.module.declare(
            f"llvm.masked.load.{short}.p0", f"{full} %s(ptr, i32, <{lanes} x i1>, {full})"
        )
        arguments = f"ptr {address}, i32 {size}, <{lanes} x i1> {t.splat(mask, lanes).text}"
        reg = t.fresh(f"call {full} @{name}({arguments}, {full} zeroinitializer){suffix}", kind, lanes)
    return _from_memory(t, reg)


def gather(t: Text, addresses: str, kind: str, lanes: int, mask: Reg | None) -> Reg:
    """Load one element per lane from its own address; inactive lanes hold zero."""
    cell, short = MEMORY[kind], f"v{lanes}{_suffix(kind)}"
    full = f"<{lanes} x {cell}>"
    active = "splat (i1 true)" if mask is None else t.splat(mask, lanes).text
    name = t.module.declare(
        f"llvm.masked.gather.{short}.v{lanes}p0",
        f"{full} %s(<{lanes} x ptr>, i32, <{lanes} x i1>, {full})",
    )
    arguments = f"<{lanes} x ptr> {addresses}, i32 {BYTES[kind]}, <{lanes} x i1> {active}"
    return _from_memory(t, t.fresh(f"call {full} @{name}({arguments}, {full} zeroinitializer)", kind, lanes))


def store(t: Text, address: str, value: Reg, lanes: int, mask: Reg | None) -> None:
    """Store consecutive elements of the active lanes."""
    size, cell = BYTES[value.kind], MEMORY[value.kind]
    count = _known_count(mask)
    if count is not None and value.kind != "i1":
        _store_parts(t, address, t.splat(value, lanes), count)
        return
    value = _to_memory(t, t.splat(value, lanes) if lanes > 1 else value)
    if lanes == 1:
        t.line(f"store {cell} {value.text}, ptr {address}, align {size}")
    elif mask is None:
        t.line(f"store <{lanes} x {cell}> {value.text}, ptr {address}, align {size}")
    else:
        full, short = f"<{lanes} x {cell}>", f"v{lanes}{_suffix(value.kind)}"
        name = t.module.declare(f"llvm.masked.store.{short}.p0", f"void %s({full}, ptr, i32, <{lanes} x i1>)")
        active = t.splat(mask, lanes).text
        t.line(f"call void @{name}({full} {value.text}, ptr {address}, i32 {size}, <{lanes} x i1> {active})")


def _known_count(mask: Reg | None) -> int | None:
    """Return the number of active lanes if these are known, and the first ones."""
    if mask is None or not mask.text.startswith("<i1"):
        return None
    return mask.text.count("true")


def _store_parts(t: Text, address: str, value: Reg, count: int) -> None:
    """Store the first elements by powers of two.

    A load of what follows them must wait for a masked store to reach the cache, but not for these.
    """
    start, size = 0, value.lanes
    while start < count:
        while size > count - start:
            size //= 2
        part = t.shuffle(value, list(range(start, start + size)))
        place = t.pure(f"getelementptr {MEMORY[value.kind]}, ptr {address}, i64 {start}", "i64").text
        store(t, place if start else address, part, size, None)
        start += size


def scatter(t: Text, addresses: str, value: Reg, lanes: int, mask: Reg | None) -> None:
    """Store one element per active lane to its own address; addresses must differ."""
    cell, short = MEMORY[value.kind], f"v{lanes}{_suffix(value.kind)}"
    value = _to_memory(t, t.splat(value, lanes))
    active = "splat (i1 true)" if mask is None else t.splat(mask, lanes).text
    full = f"<{lanes} x {cell}>"
    name = t.module.declare(
        f"llvm.masked.scatter.{short}.v{lanes}p0",
        f"void %s({full}, <{lanes} x ptr>, i32, <{lanes} x i1>)",
    )
    pointers = f"<{lanes} x ptr> {addresses}, i32 {BYTES[value.kind]}"
    t.line(f"call void @{name}({full} {value.text}, {pointers}, <{lanes} x i1> {active})")


def _from_memory(t: Text, reg: Reg) -> Reg:
    if reg.kind != "i1":
        return reg
    full = "i8" if reg.lanes == 1 else f"<{reg.lanes} x i8>"
    zero = "0" if reg.lanes == 1 else "zeroinitializer"
    return t.fresh(f"icmp ne {full} {reg.text}, {zero}", "i1", reg.lanes)


def _to_memory(t: Text, reg: Reg) -> Reg:
    if reg.kind != "i1":
        return reg
    if reg.const is not None:
        return Reg("1" if reg.const else "0", "i8", 1) if reg.lanes == 1 else _zext(t, reg)
    return _zext(t, reg)


def _zext(t: Text, reg: Reg) -> Reg:
    full = "i8" if reg.lanes == 1 else f"<{reg.lanes} x i8>"
    return t.pure(f"zext {type_name('i1', reg.lanes)} {operand(reg, reg.lanes)} to {full}", "i8", reg.lanes)


def _suffix(kind: str) -> str:
    return kind if is_float(kind) else f"i{8 * BYTES[kind]}"
