"""Write dense matrix algorithms by register tiles: products, triangular systems, Cholesky factors.

They know where triangles hold zeros and skip these, and read factors at any strides, so that nothing is
copied to be transposed. Each function is written into a module once and takes sizes and strides as
parameters; matrices are float64, stored by rows.
"""

from __future__ import annotations

from collections.abc import Callable

from .counting import counting
from .dense_tiles import (
    ONE,
    WIDE,
    accumulate,
    at,
    call,
    factor,
    flip,
    function,
    i64,
    parameter,
    plus,
    substitute,
)
from .elements import Reg
from .module import Module
from .text import Text

LOWER, UPPER = "lower", "upper"  # where a matrix may differ from zero
Columns = Callable[[Reg, int, Reg], None]


def _least(t: Text, a: Reg, b: Reg) -> Reg:
    return t.select(t.compare("lt", a, b), a, b)


def _most(t: Text, a: Reg, b: Reg) -> Reg:
    return t.select(t.compare("gt", a, b), a, b)


def _in_columns(t: Text, lanes: int, first: Reg, stop: Reg, body: Columns) -> None:
    """Run ``body(column, vectors, number of columns)`` for large tiles, then for the columns left."""
    wide = i64(WIDE * lanes)
    left = t.sub(stop, first)
    large = plus(t, first, t.mul(t.binary("sdiv", left, wide), wide))
    with counting(t, first, large, WIDE * lanes) as j:
        body(j, WIDE, wide)
    with counting(t, _most(t, first, large), stop, lanes) as j:
        body(j, 1, _least(t, t.sub(stop, j), i64(lanes)))


def _in_rows(t: Text, lanes: int, first: Reg, stop: Reg, body: Callable[[Reg, int], None]) -> None:
    """Run ``body(row, height)`` for tiles of rows from a multiple of ``lanes``, then for single rows."""
    whole = t.binary("and", stop, i64(-lanes))
    with counting(t, first, whole, lanes) as i:
        body(i, lanes)
    with counting(t, _most(t, first, whole), stop, 1) as i:
        body(i, 1)


def product(module: Module, lanes: int, left: str | None, right: str | None, wanted: str | None) -> str:
    """Return the function C = A B.

    Its parameters: C and its row's length, A and its row and column strides, B and its row's length, the
    numbers of rows, columns and terms.

    :param left: the triangle to which A is confined, if any.
    :param right: that of B.
    :param wanted: the only triangle of C that is needed, if any; elements elsewhere are undefined.
    """

    def build(t: Text) -> None:
        rows, columns, terms = parameter("rows"), parameter("columns"), parameter("terms")
        ldc, ra, ca, ldb = parameter("ldc"), parameter("ra"), parameter("ca"), parameter("ldb")

        def tile(i: Reg, height: int, j: Reg, width: int, size: Reg) -> None:
            first, stop = i64(0), terms
            if left == UPPER:
                first = i
            elif left == LOWER:
                stop = _least(t, stop, t.add(i, i64(height)))
            if right == LOWER:
                first = j if first.const == 0 else _most(t, first, j)
            elif right == UPPER:
                stop = _least(t, stop, t.add(j, i64(width * lanes)))
            call(
                t,
                accumulate(module, lanes, height, width, subtract=False),
                at(t, "%c", (i, ldc), (j, ONE)),
                ldc,
                at(t, "%a", (i, ra), (first, ca)),
                ra,
                ca,
                at(t, "%b", (first, ldb), (j, ONE)),
                ldb,
                t.sub(stop, first) if first.const != 0 else stop,
                size,
            )

        def panel(j: Reg, width: int, size: Reg) -> None:
            first = t.binary("and", j, i64(-lanes)) if wanted == LOWER else i64(0)
            stop = _least(t, rows, t.add(j, i64(width * lanes))) if wanted == UPPER else rows
            _in_rows(t, lanes, first, stop, lambda i, height: tile(i, height, j, width, size))

        _in_columns(t, lanes, i64(0), columns, panel)

    parameters = (
        "ptr %c, i64 %ldc, ptr %a, i64 %ra, i64 %ca, ptr %b, i64 %ldb, i64 %rows, i64 %columns, i64 %terms"
    )
    return function(module, f"@dense.multiply.{left}.{right}.{wanted}", parameters, build)


def solve(
    module: Module, lanes: int, upper: bool, unit: bool, right: str | None = None, half: bool = False
) -> str:
    """Return the function X = T⁻¹ X for a triangular T.

    Its parameters: X and its row's length, T and its row and column strides, the numbers of rows and columns.

    :param right: the triangle to which X is confined, if any.
    :param half: of the solution, only the triangle that is computed first is needed: the lower one with an
        upper T, else the upper one.
    """

    def build(t: Text) -> None:
        rows, ldx, rt, ct = (parameter(name) for name in ("rows", "ldx", "rt", "ct"))

        def tile(i: Reg, height: int, j: Reg, width: int, size: Reg, first: Reg, stop: Reg) -> None:
            place = at(t, "%x", (i, ldx), (j, ONE))
            call(
                t,
                accumulate(module, lanes, height, width, subtract=True),
                place,
                ldx,
                at(t, "%t", (i, rt), (first, ct)),
                rt,
                ct,
                at(t, "%x", (first, ldx), (j, ONE)),
                ldx,
                t.sub(stop, first),
                size,
            )
            corner = at(t, "%t", (i, t.add(rt, ct)))
            call(t, substitute(module, lanes, height, upper, unit), place, ldx, corner, rt, ct, size)

        def panel(j: Reg, width: int, size: Reg) -> None:
            if upper:
                last = t.binary("and", j, i64(-lanes)) if half else i64(0)
                _backward(
                    t, lanes, last, rows, lambda i, h: tile(i, h, j, width, size, t.add(i, i64(h)), rows)
                )
                return
            # Above the triangle of a lower right side the solution is zero, as is the right side.
            begin = t.binary("and", j, i64(-lanes)) if right == LOWER else i64(0)
            stop = _least(t, rows, t.add(j, i64(width * lanes))) if half else rows
            _in_rows(t, lanes, begin, stop, lambda i, h: tile(i, h, j, width, size, begin, i))

        _in_columns(t, lanes, i64(0), parameter("columns"), panel)

    options = f"{'.unit' if unit else ''}{'.half' if half else ''}"
    symbol = f"@dense.solve.{UPPER if upper else LOWER}.{right}{options}"
    return function(
        module, symbol, "ptr %x, i64 %ldx, ptr %t, i64 %rt, i64 %ct, i64 %rows, i64 %columns", build
    )


def _backward(t: Text, lanes: int, first: Reg, stop: Reg, body: Callable[[Reg, int], None]) -> None:
    """Run ``body(row, height)`` from the last row to the first, single rows before tiles."""
    whole = t.binary("and", stop, i64(-lanes))
    with counting(t, i64(0), t.sub(stop, whole), 1) as done:
        body(t.sub(t.sub(stop, done), ONE), 1)
    with counting(t, i64(0), t.sub(whole, first), lanes) as done:
        body(t.sub(t.sub(whole, done), i64(lanes)), lanes)


def cholesky(module: Module, lanes: int) -> str:
    """Return the function that overwrites the lower triangle of a symmetric matrix by its lower factor.

    Its parameters: the matrix, its number of rows, and the cell for the number of the first bad pivot or 0.
    The upper triangle becomes zero.
    """

    def build(t: Text) -> None:
        n = parameter("n")
        t.line("store i32 0, ptr %info")
        call(t, mirror(module, lanes, LOWER), "%u", n)

        def tile(i: Reg, height: int) -> None:
            def update(j: Reg, width: int, size: Reg) -> None:
                place, above = at(t, "%u", (i, n), (j, ONE)), at(t, "%u", (j, ONE))
                minus = accumulate(module, lanes, height, width, subtract=True)
                call(t, minus, place, n, at(t, "%u", (i, ONE)), ONE, n, above, n, i, size)

            corner = at(t, "%u", (i, t.add(n, ONE)))
            update(i, 1, i64(height))
            call(t, factor(module, lanes, height), corner, n, "%info", i, i64(height))

            def right_of(j: Reg, width: int, size: Reg) -> None:
                update(j, width, size)
                forward = substitute(module, lanes, height, backward=False, unit=False)
                call(t, forward, at(t, "%u", (i, n), (j, ONE)), n, corner, ONE, n, size)

            _in_columns(t, lanes, t.add(i, i64(height)), n, right_of)

        # By rows the factor U with U'U is made, whose rows are the factor's columns.
        _in_rows(t, lanes, i64(0), n, tile)
        call(t, mirror(module, lanes, UPPER), "%u", n)
        with counting(t, i64(0), n, 1) as i, counting(t, t.add(i, ONE), n, 1) as j:
            t.line(f"store double 0.0, ptr {at(t, '%u', (i, n), (j, ONE))}")

    return function(module, "@dense.cholesky", "ptr %u, i64 %n, ptr %info", build)


def mirror(module: Module, lanes: int, source: str) -> str:
    """Return the function that copies one triangle of a square matrix onto the other, within the matrix."""

    def build(t: Text) -> None:
        n = parameter("n")

        def tile(i: Reg, height: int) -> None:
            """Copy rows i … of the lower triangle to columns, or back."""
            if height > 1:
                with counting(t, i64(0), i, lanes) as j:
                    lower, upper = at(t, "%x", (i, n), (j, ONE)), at(t, "%x", (j, n), (i, ONE))
                    target, origin = (upper, lower) if source == LOWER else (lower, upper)
                    call(t, flip(module, lanes), target, n, origin, n)
            with counting(t, i, t.add(i, i64(height)), 1) as row:
                start = i if height > 1 else i64(0)
                with counting(t, start, row, 1) as j:
                    lower, upper = at(t, "%x", (row, n), (j, ONE)), at(t, "%x", (j, n), (row, ONE))
                    target, origin = (upper, lower) if source == LOWER else (lower, upper)
                    value = t.fresh(f"load double, ptr {origin}", "f64")
                    t.line(f"store double {value.text}, ptr {target}")

        _in_rows(t, lanes, i64(0), n, tile)

    return function(module, f"@dense.mirror.{source}", "ptr %x, i64 %n", build)


def transpose(module: Module, lanes: int) -> str:
    """Return the function that writes the transpose of a matrix.

    Its parameters: the result, the matrix, and the matrix's numbers of rows and columns.
    """

    def build(t: Text) -> None:
        rows, columns = parameter("rows"), parameter("columns")
        whole = t.binary("and", columns, i64(-lanes))

        def tile(i: Reg, height: int) -> None:
            begin = i64(0)
            if height > 1:
                begin = whole
                with counting(t, i64(0), whole, lanes) as j:
                    target, origin = at(t, "%y", (j, rows), (i, ONE)), at(t, "%x", (i, columns), (j, ONE))
                    call(t, flip(module, lanes), target, rows, origin, columns)
            with counting(t, i, t.add(i, i64(height)), 1) as row, counting(t, begin, columns, 1) as j:
                value = t.fresh(f"load double, ptr {at(t, '%x', (row, columns), (j, ONE))}", "f64")
                t.line(f"store double {value.text}, ptr {at(t, '%y', (j, rows), (row, ONE))}")

        _in_rows(t, lanes, i64(0), rows, tile)

    return function(module, "@dense.transpose", "ptr %y, ptr %x, i64 %rows, i64 %columns", build)
