"""Write factors and triangular systems of small matrices out, a matrix or a right-hand side per lane."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .. import conditions
from ..builder import Builder
from ..elements import Reg, const
from ..index import Linear
from ..kernel import Kernel
from ..loops import loop_nest
from ..stages import Extern
from ..tensors import Index, Tensor, broadcast, broadcast_index, spread, squeeze

LARGEST = 8  # rows of a matrix written out


def small_cholesky(b: Builder, a: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower factor, NaN where the matrix is not positive definite, and the failing minor or 0."""
    n = a.shape[-1]
    batch = a.shape[:-2]
    factor, info = b.new(a.shape, a.kind), b.new(batch, "i32")

    def one(k: Kernel, lead: Index) -> None:
        zero, nan = const(0.0, a.kind), const(math.nan, a.kind)
        entries: dict[tuple[int, int], Reg] = {}
        code = const(0, "i32")
        for j in range(n):
            pivot = _minus_products(
                k, _at(k, a, lead, j, j), [(entries[j, s], entries[j, s]) for s in range(j)]
            )
            bad = conditions.negation(k, k.compare("gt", pivot, zero))
            first = conditions.conjunction(k, bad, k.compare("eq", code, const(0, "i32")))
            code = k.select(first, const(j + 1, "i32"), code)
            entries[j, j] = k.unary("sqrt", k.select(bad, nan, pivot))
            for i in range(j + 1, n):
                products = [(entries[i, s], entries[j, s]) for s in range(j)]
                entries[i, j] = k.div(_minus_products(k, _at(k, a, lead, i, j), products), entries[j, j])
        failed = k.compare("ne", code, const(0, "i32"))
        for i in range(n):
            for j in range(n):
                value = k.select(failed, nan, entries[i, j] if j <= i else zero)
                k.write(factor, (*lead, Linear(i), Linear(j)), value)
        k.write(info, lead, code)

    _over(b, [a], [factor, info], batch, one, 4 * n**3)
    return factor, info


def small_solve(b: Builder, a: Tensor, y: Tensor, upper: bool, left: bool, unit: bool) -> Tensor:
    """Solve ``a x = y``, or ``x a = y``, with a triangular ``a``."""
    n = a.shape[-1]
    batch = broadcast(a.shape[:-2], y.shape[:-2])
    sides = y.shape[-1] if left else y.shape[-2]
    out = b.new((*batch, *y.shape[-2:]), y.kind)
    # From the right, the transposed system is solved.
    forward = upper != left
    order = range(n) if forward else range(n - 1, -1, -1)

    def one(k: Kernel, index: Index) -> None:
        lead, side = index[:-1], index[-1]
        matrix_lead = broadcast_index(Tensor(a.shape[:-2], a.kind), lead, batch)
        side_lead = broadcast_index(Tensor(y.shape[:-2], y.kind), lead, batch)
        solved: dict[int, Reg] = {}
        for i in order:
            row, column = (Linear(i), side) if left else (side, Linear(i))
            products = []
            for j, value in solved.items():
                place = (i, j) if left else (j, i)
                products.append((_at(k, a, matrix_lead, *place), value))
            rest = _minus_products(k, k.read(y, (*side_lead, row, column)), products)
            solved[i] = rest if unit else k.div(rest, _at(k, a, matrix_lead, i, i))
            k.write(out, (*lead, row, column), solved[i])

    _over(b, [a, y], [out], (*batch, sides), one, 3 * n**2)
    return out


def _at(k: Kernel, a: Tensor, lead: Index, row: int, column: int) -> Reg:
    return k.read(a, (*lead, Linear(row), Linear(column)))


def _minus_products(k: Kernel, start: Reg, pairs: Sequence[tuple[Reg, Reg]]) -> Reg:
    for one, other in pairs:
        start = k.binary("fsub", start, k.product(one, other), "contract ")
    return start


def _over(
    b: Builder,
    reads: Sequence[Tensor],
    outputs: Sequence[Tensor],
    shape: Sequence[int],
    one: Callable[[Kernel, Index], None],
    cost: int,
) -> None:
    """Run ``one(kernel, index)`` at every index of ``shape``, the last dimension in lanes."""

    def run(k: Kernel) -> None:
        with k.scope():
            loop_nest(k, squeeze(shape), lambda variables: one(k, spread(variables, shape)))

    b.add(Extern(reads, [], outputs, run, cost))
