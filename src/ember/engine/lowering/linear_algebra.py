"""Lower factorisations and solves to LAPACK, and what is made of them.

LAPACK reads matrices by columns, so it sees the transpose of each of ours; the calls below are arranged so that
this costs nothing where the matrix is symmetric or triangular.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import index as ix
from .builder import Builder, operation
from .elements import Reg, const
from .index import ZERO, Linear
from .kernel import Kernel
from .loops import loop, pointwise_loop
from .products import element_address
from .tensors import Extern, Index, Tensor, broadcast, memory_of
from .views import expand, transpose, triangle


def _letter(x: Tensor) -> str:
    return "d" if x.kind == "f64" else "s"


def _batch(x: Tensor) -> int:
    return math.prod(x.shape[:-2])


def fill(k: Kernel, target: Tensor, source: Tensor, flipped: bool = False) -> None:
    """Copy a matrix, or a stack of them, into the memory that LAPACK will overwrite."""

    def one(index: Index) -> None:
        place = (*index[:-2], index[-1], index[-2]) if flipped else index
        k.write(target, index, k.read(source, place))

    with k.scope():
        pointwise_loop(k, target.shape, one)


def each_matrix(k: Kernel, count: int, body: Callable[[Linear], None]) -> None:
    """Run ``body`` for each matrix of a stack."""
    loop(k, count, 1, body)


def status(k: Kernel, info: Tensor, offset: Linear) -> Reg:
    """Load LAPACK's return code of one matrix."""
    return k.load(element_address(k, info, offset), "i32", 1, None, False)


def spoil(k: Kernel, failed: Reg, target: Tensor, offset: Linear, size: int) -> None:
    """Overwrite a result with NaN where the routine failed, so that no half-finished numbers are used."""
    bad, done = k.label("failed"), k.label("checked")
    k.branch(failed, bad, done)
    k.start(bad)
    nan = const(math.nan, target.kind)
    flat = Tensor((target.numel,), target.kind)
    flat.home = memory_of(target)
    with k.scope():
        pointwise_loop(k, (size,), lambda index: k.write(flat, (ix.add(offset.scale(size), *index),), nan))
    k.jump(done)
    k.start(done)


def _flag(k: Kernel, info: Tensor, offset: Linear) -> Reg:
    return k.fresh(f"icmp ne i32 {status(k, info, offset).text}, 0", "i1")


# Cholesky -------------------------------------------------------------------------------------------------
def cholesky(b: Builder, a: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower factor, NaN where the matrix is not positive definite, and LAPACK's codes."""
    n = a.shape[-1]
    factor, info = b.new(a.shape, a.kind), b.new(a.shape[:-2], "i32")

    def run(k: Kernel) -> None:
        fill(k, factor, triangle(b, a))

        def one(offset: Linear) -> None:
            address = element_address(k, factor, offset.scale(n * n))
            code = element_address(k, info, offset)
            # By columns, the lower triangle that we stored is the upper one.
            k.fortran(
                "lapack",
                _letter(a) + "potrf",
                k.char_global("U"),
                k.integer_global(n),
                address,
                k.integer_global(max(n, 1)),
                code,
            )
            spoil(k, _flag(k, info, offset), factor, offset, n * n)

        each_matrix(k, _batch(a), one)

    b.add(Extern([a], [], [factor, info], run))
    return factor, info


@operation("aten.linalg_cholesky_ex.default")
def _cholesky_ex(b: Builder, a: Tensor, upper: bool = False, check_errors: bool = False) -> list[Tensor]:
    source = transpose(b, a, -1, -2) if upper else a
    factor, info = cholesky(b, source)
    return [transpose(b, factor, -1, -2) if upper else factor, info]


@operation("aten.cholesky.default", "aten.linalg_cholesky.default")
def _cholesky(b: Builder, a: Tensor, upper: bool = False) -> Tensor:
    return _cholesky_ex(b, a, upper)[0]


# Triangular systems ---------------------------------------------------------------------------------------
def solve_triangular(
    b: Builder, a: Tensor, y: Tensor, upper: bool, left: bool = True, unit: bool = False
) -> Tensor:
    """Solve ``a x = y``, or ``x a = y``; one triangle of ``a`` is read."""
    batch = _joint_batch(a, y)
    matrix, flipped = (a.transposed, True) if getattr(a, "transposed", None) is not None else (a, False)
    matrix = expand(b, matrix, (*batch, *matrix.shape[-2:]))
    right_side = expand(b, y, (*batch, *y.shape[-2:]))
    rows, columns = y.shape[-2:]
    n = a.shape[-1]
    out = b.new(right_side.shape, y.kind)
    # The stored matrix, seen by columns, is a' (or a, if what we were given is a transpose).
    stored_upper = upper if flipped else not upper

    def run(k: Kernel) -> None:
        fill(k, out, right_side)

        def one(offset: Linear) -> None:
            k.fortran(
                "blas",
                _letter(a) + "trsm",
                k.char_global("R" if left else "L"),
                k.char_global("U" if stored_upper else "L"),
                k.char_global("T" if flipped else "N"),
                k.char_global("U" if unit else "N"),
                k.integer_global(columns),
                k.integer_global(rows),
                k.float_global(1.0, a.kind),
                element_address(k, matrix, offset.scale(n * n)),
                k.integer_global(max(n, 1)),
                element_address(k, out, offset.scale(rows * columns)),
                k.integer_global(max(columns, 1)),
            )

        if out.numel:
            each_matrix(k, math.prod(batch), one)

    b.add(Extern([right_side], [matrix], [out], run))
    return out


def _joint_batch(a: Tensor, y: Tensor) -> tuple[int, ...]:
    return broadcast(a.shape[:-2], y.shape[:-2])


@operation("aten.linalg_solve_triangular.default")
def _solve_triangular(
    b: Builder, a: Tensor, y: Tensor, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    return solve_triangular(b, a, y, upper, left, unitriangular)


@operation("aten.triangular_solve.default")
def _old_triangular_solve(
    b: Builder, y: Tensor, a: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> list[Tensor]:
    from .views import transpose as flip

    matrix = flip(b, a, -1, -2) if transpose else a
    solution = solve_triangular(b, matrix, y, upper != transpose, True, unitriangular)
    return [solution, expand(b, a, b.out(1).shape)]


@operation("aten.cholesky_solve.default")
def _cholesky_solve(b: Builder, y: Tensor, factor: Tensor, upper: bool = False) -> Tensor:
    lower = transpose(b, factor, -1, -2) if upper else factor
    half = solve_triangular(b, lower, y, upper=False)
    return solve_triangular(b, transpose(b, lower, -1, -2), half, upper=True)


@operation("aten.cholesky_inverse.default")
def _cholesky_inverse(b: Builder, factor: Tensor, upper: bool = False) -> Tensor:
    return _cholesky_solve(b, identity(b, factor.shape, factor.kind), factor, upper)


def identity(b: Builder, shape: Sequence[int], kind: str) -> Tensor:
    """Make an identity matrix, or a stack of them."""

    def emit(k: Kernel, index: Index) -> Reg:
        inside = k.within(ix.add(index[-1], index[-2].scale(-1)), 0, 1)
        return k.select(inside, const(1, kind), const(0, kind))

    return b.map(shape, kind, (), emit, 2)


# LU -------------------------------------------------------------------------------------------------------
def lu_factor(b: Builder, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors by columns, the pivots, and LAPACK's codes."""
    *batch, m, n = a.shape
    factors = b.new((*batch, n, m), a.kind)
    pivots, info = b.new((*batch, min(m, n)), "i32"), b.new(batch, "i32")

    def run(k: Kernel) -> None:
        fill(k, factors, a, flipped=True)

        def one(offset: Linear) -> None:
            k.fortran(
                "lapack",
                _letter(a) + "getrf",
                k.integer_global(m),
                k.integer_global(n),
                element_address(k, factors, offset.scale(m * n)),
                k.integer_global(max(m, 1)),
                element_address(k, pivots, offset.scale(min(m, n))),
                element_address(k, info, offset),
            )

        each_matrix(k, _batch(a), one)

    b.add(Extern([a], [], [factors, pivots, info], run))
    return factors, pivots, info


def lu_solve(
    b: Builder, factors: Tensor, pivots: Tensor, info: Tensor | None, y: Tensor, adjoint: bool = False
) -> Tensor:
    """Solve with factors stored by columns; a singular matrix gives NaN."""
    batch = _joint_batch(factors, y)
    n, columns = y.shape[-2:]
    stored = expand(b, factors, (*batch, *factors.shape[-2:]))
    swaps = expand(b, pivots, (*batch, n))
    right_side = expand(b, y, (*batch, n, columns))
    out, code = b.new((*batch, columns, n), y.kind), b.new(batch, "i32")
    states = None if info is None else expand(b, info, batch)

    def run(k: Kernel) -> None:
        fill(k, out, right_side, flipped=True)

        def one(offset: Linear) -> None:
            k.fortran(
                "lapack",
                _letter(y) + "getrs",
                k.char_global("T" if adjoint else "N"),
                k.integer_global(n),
                k.integer_global(columns),
                element_address(k, stored, offset.scale(n * n)),
                k.integer_global(max(n, 1)),
                element_address(k, swaps, offset.scale(n)),
                element_address(k, out, offset.scale(n * columns)),
                k.integer_global(max(n, 1)),
                element_address(k, code, offset),
            )
            if states is not None:
                spoil(k, _flag(k, states, offset), out, offset, n * columns)

        if out.numel:
            each_matrix(k, math.prod(batch), one)

    whole = [stored, swaps] + ([states] if states is not None else [])
    b.add(Extern([right_side], whole, [out, code], run))
    return transpose(b, out, -1, -2)


@operation("aten.linalg_lu_factor_ex.default")
def _lu_factor_ex(b: Builder, a: Tensor, pivot: bool = True, check_errors: bool = False) -> list[Tensor]:
    if not pivot:
        raise b.refuse("LU factors without pivoting are not supported")
    factors, pivots, info = lu_factor(b, a)
    return [transpose(b, factors, -1, -2), pivots, info]


@operation("aten.linalg_lu_solve.default")
def _linalg_lu_solve(
    b: Builder, lu: Tensor, pivots: Tensor, y: Tensor, left: bool = True, adjoint: bool = False
) -> Tensor:
    factors = transpose(b, lu, -1, -2)
    if left:
        return lu_solve(b, factors, pivots, None, y, adjoint)
    flipped = lu_solve(b, factors, pivots, None, transpose(b, y, -1, -2), not adjoint)
    return transpose(b, flipped, -1, -2)


@operation("aten._linalg_solve_ex.default")
def _linalg_solve_ex(b: Builder, a: Tensor, y: Tensor, left: bool = True, check_errors: bool = False) -> Any:
    vector = len(y.shape) == 1 or (len(y.shape) == len(a.shape) - 1 and y.shape == a.shape[:-1])
    right_side = b.reshape(y, (*y.shape, 1)) if vector else y
    source = a if left else transpose(b, a, -1, -2)
    right_side = right_side if left or vector else transpose(b, right_side, -1, -2)
    factors, pivots, info = lu_factor(b, source)
    solution = lu_solve(b, factors, pivots, info, right_side)
    solution = solution if left or vector else transpose(b, solution, -1, -2)
    if vector:
        solution = b.reshape(solution, b.out().shape)
    return [solution, transpose(b, factors, -1, -2), pivots, info]


@operation("aten.linalg_inv_ex.default")
def _linalg_inv_ex(b: Builder, a: Tensor, check_errors: bool = False) -> list[Tensor]:
    factors, pivots, info = lu_factor(b, a)
    return [lu_solve(b, factors, pivots, info, identity(b, a.shape, a.kind)), info]


def _sign_and_diagonal(b: Builder, factors: Tensor, pivots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sign of the permutation, as a float, and the diagonal of U."""
    from .reductions import reduce_axes
    from .views import strided

    n = factors.shape[-1]
    kind = factors.kind

    def moved(k: Kernel, index: Index) -> Reg:
        place = k.convert(k.index_value(index[-1].shift(1)), "i32")
        swapped = k.compare("ne", k.read(pivots, index), place)
        return k.select(swapped, const(-1.0, kind), const(1.0, kind))

    signs = b.map(pivots.shape, kind, [(pivots, True)], moved, 2)
    rank = len(pivots.shape)
    sign = reduce_axes(b, [signs], [rank - 1], [const(1.0, kind)], lambda k, a, v: [k.mul(a[0], v[0])])[0]
    batch = factors.shape[:-2]
    strides = [math.prod(batch[d + 1 :]) * n * n for d in range(len(batch))]
    return sign, strided(b, factors, (*batch, n), (*strides, n + 1), 0)


@operation("aten._linalg_det.default")
def _linalg_det(b: Builder, a: Tensor) -> list[Tensor]:
    from .reductions import reduce_axes

    factors, pivots, _ = lu_factor(b, a)
    sign, diagonal = _sign_and_diagonal(b, factors, pivots)
    size = reduce_axes(
        b, [diagonal], [len(diagonal.shape) - 1], [const(1.0, a.kind)], lambda k, u, v: [k.mul(u[0], v[0])]
    )[0]
    value = b.pointwise(lambda k, s, d: k.mul(s, d), sign, size, kind=a.kind, compute=a.kind)
    return [value, transpose(b, factors, -1, -2), pivots]


@operation("aten._linalg_slogdet.default")
def _linalg_slogdet(b: Builder, a: Tensor) -> list[Tensor]:
    from .pointwise import _sign, elementary
    from .reductions import reduce_axes, total

    factors, pivots, _ = lu_factor(b, a)
    sign, diagonal = _sign_and_diagonal(b, factors, pivots)
    last = len(diagonal.shape) - 1
    signs = b.pointwise(_sign, diagonal, kind=a.kind, compute=a.kind)
    flips = reduce_axes(b, [signs], [last], [const(1.0, a.kind)], lambda k, u, v: [k.mul(u[0], v[0])])[0]
    whole = b.pointwise(lambda k, s, d: k.mul(s, d), sign, flips, kind=a.kind, compute=a.kind)
    logs = b.pointwise(
        lambda k, u: elementary("log")(k, k.unary("fabs", u)), diagonal, kind=a.kind, compute=a.kind, cost=30
    )
    return [whole, total(b, logs, [last], a.kind), transpose(b, factors, -1, -2), pivots]


# Symmetric eigenproblems ----------------------------------------------------------------------------------
@operation("aten._linalg_eigh.default")
def _linalg_eigh(b: Builder, a: Tensor, uplo: str = "L", compute_v: bool = True) -> list[Tensor]:
    *batch, n, _ = a.shape
    vectors, values = b.new(a.shape, a.kind), b.new((*batch, n), a.kind)
    info = b.new(batch, "i32")
    work, integers = b.new((1 + 6 * n + 2 * n * n,), a.kind), b.new((3 + 5 * n,), "i32")

    def run(k: Kernel) -> None:
        fill(k, vectors, a)

        def one(offset: Linear) -> None:
            k.fortran(
                "lapack",
                _letter(a) + "syevd",
                k.char_global("V" if compute_v else "N"),
                k.char_global("U" if uplo.upper() == "L" else "L"),
                k.integer_global(n),
                element_address(k, vectors, offset.scale(n * n)),
                k.integer_global(max(n, 1)),
                element_address(k, values, offset.scale(n)),
                k.pointer(work),
                k.integer_global(work.numel),
                k.pointer(integers),
                k.integer_global(integers.numel),
                element_address(k, info, offset),
            )
            spoil(k, _flag(k, info, offset), values, offset, n)

        if a.numel:
            each_matrix(k, _batch(a), one)

    b.add(Extern([a], [], [vectors, values, info, work, integers], run))
    if not compute_v:
        return [values, b.full(b.out(1).shape, 0, a.kind)]
    return [values, transpose(b, vectors, -1, -2)]


__all__ = ["ZERO", "cholesky", "lu_factor", "lu_solve", "solve_triangular"]
