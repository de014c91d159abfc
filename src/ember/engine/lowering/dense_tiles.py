"""Write the register tiles of dense matrix algorithms as functions: products, substitutions, small factors.

A tile is some rows by some vectors of columns of a matrix stored by rows. Its sum of products takes the left
factor's elements one by one, at any strides, and the right factor's rows in vectors, so that every load
serves several fused multiplications (Goto & van de Geijn 2008, without their packing: matrices here fit the
second-level cache).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import access
from .counting import counting
from .elements import Reg, const, type_name, vector_literal
from .module import Module
from .text import Text

WIDE = 3  # vectors of columns of a large tile
ONE = const(1, "i64")


def i64(value: int) -> Reg:
    """Make an int64 constant."""
    return const(value, "i64")


def parameter(name: str) -> Reg:
    """Refer to an int64 parameter."""
    return Reg(f"%{name}", "i64")


def function(module: Module, symbol: str, parameters: str, build: Callable[[Text], None]) -> str:
    """Write a function into the module, unless it is there; return its name."""
    if symbol not in module.helpers:
        body = Text(module, "d")
        body.block = "start"
        build(body)
        head = [f"define internal void {symbol}({parameters}) #0 {{", "entry:", *body.entry]
        tail = ["  br label %start", "start:", *body.lines, "  ret void", "}"]
        module.helpers[symbol] = "\n".join([*head, *tail])
    return symbol


def call(t: Text, symbol: str, *arguments: str | Reg) -> None:
    """Call a function on addresses (text) and int64 numbers."""
    texts = (f"i64 {each.text}" if isinstance(each, Reg) else f"ptr {each}" for each in arguments)
    t.line(f"call void {symbol}({', '.join(texts)})")


def at(t: Text, base: str, *steps: tuple[Reg, Reg]) -> str:
    """Return the address of the float64 that is, for each pair, so many strides from the base."""
    position = i64(0)
    for count, stride in steps:
        position = plus(t, position, _times(t, count, stride))
    return access.address(t, base, "f64", position)


def _times(t: Text, a: Reg, b: Reg) -> Reg:
    if a.const is not None and b.const is not None:
        return i64(int(a.const) * int(b.const))
    if a.const in (0, 1):
        return b if a.const else i64(0)
    if b.const in (0, 1):
        return a if b.const else i64(0)
    return t.mul(a, b)


def plus(t: Text, a: Reg, b: Reg) -> Reg:
    """Add numbers of which some may be constants."""
    if a.const is not None and b.const is not None:
        return i64(int(a.const) + int(b.const))
    if a.const == 0:
        return b
    return a if b.const == 0 else t.add(a, b)


def _mask(t: Text, lanes: int, columns: Reg) -> Reg:
    """Return the lanes below a number of columns."""
    steps = Reg(vector_literal(list(range(lanes)), "i64"), "i64", lanes)
    return t.compare("lt", steps, columns)


def _load(t: Text, address: str, lanes: int, mask: Reg | None) -> Reg:
    return access.load(t, address, "f64", lanes, mask, False)


def _one(t: Text, address: str) -> Reg:
    return access.load(t, address, "f64", 1, None, False)


def accumulate(module: Module, lanes: int, height: int, width: int, subtract: bool) -> str:
    """Return the function C = A B, or C −= A B, for one tile.

    Its parameters: C and its row's length, A and its row and column strides, B and its row's length, the
    number of terms of the sums, the number of columns of C (a tile of one vector may have fewer than lanes).
    """

    def build(t: Text) -> None:
        mask = None if width > 1 else _mask(t, lanes, parameter("columns"))
        full = type_name("f64", lanes)
        rows, vectors = range(height), range(width)
        ldc = parameter("ldc")
        places = {(h, v): at(t, "%c", (i64(h), ldc), (i64(v * lanes), ONE)) for h in rows for v in vectors}
        slots = {key: t.alloca("f64", lanes) for key in places}
        for key, place in places.items():
            start = _load(t, place, lanes, mask).text if subtract else "zeroinitializer"
            t.line(f"store {full} {start}, ptr {slots[key]}")
        with counting(t, i64(0), parameter("depth"), 1) as k:
            row = at(t, "%b", (k, parameter("ldb")))
            right = [_load(t, at(t, row, (i64(v * lanes), ONE)), lanes, mask) for v in vectors]
            column = at(t, "%a", (k, parameter("ca")))
            for h in rows:
                left = _one(t, at(t, column, (i64(h), parameter("ra"))))
                left = t.splat(t.neg(left) if subtract else left, lanes)
                for v in vectors:
                    sum_so_far = t.fresh(f"load {full}, ptr {slots[h, v]}", "f64", lanes)
                    total = t.fma(left, right[v], sum_so_far)
                    t.line(f"store {full} {total.text}, ptr {slots[h, v]}")
        for key, place in places.items():
            total = t.fresh(f"load {full}, ptr {slots[key]}", "f64", lanes)
            access.store(t, place, total, lanes, mask)

    symbol = f"@dense.{'minus' if subtract else 'product'}.{height}.{width}"
    parameters = "ptr %c, i64 %ldc, ptr %a, i64 %ra, i64 %ca, ptr %b, i64 %ldb, i64 %depth, i64 %columns"
    return function(module, symbol, parameters, build)


def substitute(module: Module, lanes: int, height: int, backward: bool, unit: bool) -> str:
    """Return the function X = T⁻¹ X for a triangular T of ``height`` rows and any number of columns of X."""

    def build(t: Text) -> None:
        order = range(height - 1, -1, -1) if backward else range(height)
        inverses: dict[int, Reg] = {}
        for i in () if unit else order:
            pivot = _one(t, at(t, "%t", (i64(i), parameter("rt")), (i64(i), parameter("ct"))))
            inverses[i] = t.splat(t.div(const(1.0, "f64"), pivot), lanes)
        with counting(t, i64(0), parameter("columns"), lanes) as j:
            mask = _mask(t, lanes, t.sub(parameter("columns"), j))
            places = [at(t, "%x", (i64(i), parameter("ldx")), (j, ONE)) for i in range(height)]
            rows = [_load(t, place, lanes, mask) for place in places]
            waiting = list(order)
            while waiting:
                i = waiting.pop(0)
                if not unit:
                    rows[i] = t.mul(rows[i], inverses[i])
                access.store(t, places[i], rows[i], lanes, mask)
                for later in waiting:
                    element = _one(t, at(t, "%t", (i64(later), parameter("rt")), (i64(i), parameter("ct"))))
                    rows[later] = t.fma(t.neg(t.splat(element, lanes)), rows[i], rows[later])

    symbol = f"@dense.{'back' if backward else 'forward'}.{height}{'.unit' if unit else ''}"
    return function(module, symbol, "ptr %x, i64 %ldx, ptr %t, i64 %rt, i64 %ct, i64 %columns", build)


def factor(module: Module, lanes: int, height: int) -> str:
    """Return the function that makes U of a symmetric tile U'U, of which the upper triangle is read.

    It writes the number of the first pivot that is not positive to a cell that holds zero until then;
    ``first`` is the tile's place in the matrix.
    """

    def build(t: Text) -> None:
        mask = None if height == lanes else _mask(t, lanes, parameter("columns"))
        places = [at(t, "%u", (i64(i), parameter("ldu"))) for i in range(height)]
        rows = [_load(t, place, lanes, mask) for place in places]
        code = t.fresh("load i32, ptr %info", "i32")
        for i in range(height):
            pivot = t.extract(rows[i], i)
            good = t.compare("gt", pivot, const(0.0, "f64"))
            number = t.convert(t.add(parameter("first"), i64(i + 1)), "i32")
            found = t.select(good, const(0, "i32"), number)
            code = t.select(t.compare("eq", code, const(0, "i32")), found, code)
            rows[i] = t.div(rows[i], t.splat(t.unary("sqrt", pivot), lanes))
            for later in range(i + 1, height):
                factor_ = t.shuffle(rows[i], [later] * lanes)
                rows[later] = t.fma(t.neg(factor_), rows[i], rows[later])
            access.store(t, places[i], rows[i], lanes, mask)
        t.line(f"store i32 {code.text}, ptr %info")

    parameters = "ptr %u, i64 %ldu, ptr %info, i64 %first, i64 %columns"
    return function(module, f"@dense.factor.{height}", parameters, build)


def flip(module: Module, lanes: int) -> str:
    """Return the function that writes the transpose of a square tile of ``lanes`` rows."""

    def build(t: Text) -> None:
        rows = [_load(t, at(t, "%x", (i64(i), parameter("ldx"))), lanes, None) for i in range(lanes)]
        for i, row in enumerate(transposed(t, rows)):
            access.store(t, at(t, "%y", (i64(i), parameter("ldy"))), row, lanes, None)

    return function(module, "@dense.flip", "ptr %y, i64 %ldy, ptr %x, i64 %ldx", build)


def transposed(t: Text, rows: Sequence[Reg]) -> list[Reg]:
    """Transpose a square of registers, exchanging ever smaller quarters."""
    lanes = len(rows)
    current = list(rows)
    size = lanes // 2
    while size:
        exchanged = list(current)
        for i in range(lanes):
            if i & size:
                continue
            a, c = current[i], current[i | size]
            low = [lane if not lane & size else lanes + (lane ^ size) for lane in range(lanes)]
            high = [lane | size if not lane & size else lanes + lane for lane in range(lanes)]
            exchanged[i], exchanged[i | size] = t.shuffle_two(a, c, low), t.shuffle_two(a, c, high)
        current = exchanged
        size //= 2
    return current
