"""Lower Cholesky factors and triangular systems."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import conditions, dense, fortran
from .. import index as ix
from ..builder import Builder, operation
from ..elements import Reg, const
from ..index import Linear
from ..kernel import Kernel
from ..stages import Extern
from ..tensors import Index, Tensor, broadcast
from ..triangles import ANY, Triangles
from .insets import triangle
from .lapack import each_matrix, failed, fill, letter, num_matrices, spoil
from .products import base_of, by_tiles, element_address
from .small_matrices import LARGEST, small_cholesky, small_solve
from .views import expand, transpose


# Cholesky -------------------------------------------------------------------------------------------------
def cholesky(b: Builder, a: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower factor, NaN where the matrix is not positive definite, and LAPACK's codes."""
    n = a.shape[-1]
    if 1 <= n <= LARGEST:
        return small_cholesky(b, a)
    factor, info = b.new(a.shape, a.kind), b.new(a.shape[:-2], "i32")

    def run(k: Kernel) -> None:
        fill(k, factor, triangle(b, a))

        def one(offset: Linear) -> None:
            address = element_address(k, factor, offset.scale(n * n))
            code = element_address(k, info, offset)
            if by_tiles(k, a, n):
                dense.call(k, dense.cholesky(k.module, k.lanes), address, dense.i64(n), code)
            else:
                # By columns, the lower triangle that we stored is the upper one.
                fortran.call(
                    k,
                    "lapack",
                    letter(a) + "potrf",
                    fortran.character(k, "U"),
                    fortran.integer(k, n),
                    address,
                    fortran.integer(k, max(n, 1)),
                    code,
                )
            spoil(k, failed(k, info, offset), factor, offset, n * n)

        each_matrix(k, num_matrices(a), one)

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
    b: Builder,
    a: Tensor,
    y: Tensor,
    upper: bool,
    left: bool = True,
    unit: bool = False,
    triangles: Triangles = ANY,
    symmetric: bool = False,
) -> Tensor:
    """Solve ``a x = y``, or ``x a = y``; one triangle of ``a`` is read.

    :param triangles: to which ``y`` is confined.
    :param symmetric: the solution is known to be symmetric.
    """
    if 1 <= a.shape[-1] <= LARGEST and y.numel:
        return small_solve(b, a, y, upper, left, unit)
    batch = joint_batch(a, y)
    matrix, is_flipped = base_of(a)
    matrix = expand(b, matrix, (*batch, *matrix.shape[-2:]))
    right_side = expand(b, y, (*batch, *y.shape[-2:]))
    rows, columns = y.shape[-2:]
    n = a.shape[-1]
    out = b.new(right_side.shape, y.kind)
    turned = b.new(() if left or symmetric else (columns, rows), y.kind)  # the transposed right side

    def one_by_tiles(k: Kernel, offset: Linear) -> None:
        target = solution = element_address(k, out, offset.scale(rows * columns))
        strides = [dense.i64(each) for each in ((1, n) if is_flipped else (n, 1))]
        size = [dense.i64(rows), dense.i64(columns)]
        confined = dense.LOWER if (dense.LOWER if left else dense.UPPER) in triangles else None
        turn = dense.transpose(k.module, k.lanes)
        if not left:
            # The transposed system is solved, with the transposed matrix.
            solution = target if symmetric else k.pointer(turned)
            dense.call(k, turn, solution, element_address(k, right_side, offset.scale(rows * columns)), *size)
            strides.reverse()
            size.reverse()
        dense.call(
            k,
            dense.solve(k.module, k.lanes, upper == left, unit, confined, symmetric),
            solution,
            size[1],
            element_address(k, matrix, offset.scale(n * n)),
            *strides,
            *size,
        )
        if symmetric:
            known = dense.LOWER if upper == left else dense.UPPER
            dense.call(k, dense.mirror(k.module, k.lanes, known), target, size[0])
        elif not left:
            dense.call(k, turn, target, solution, *size)

    def one_by_blas(k: Kernel, offset: Linear) -> None:
        # The stored matrix, seen by columns, is a' (or a, if what we were given is a transpose).
        stored_upper = upper if is_flipped else not upper
        fortran.call(
            k,
            "blas",
            letter(a) + "trsm",
            fortran.character(k, "R" if left else "L"),
            fortran.character(k, "U" if stored_upper else "L"),
            fortran.character(k, "T" if is_flipped else "N"),
            fortran.character(k, "U" if unit else "N"),
            fortran.integer(k, columns),
            fortran.integer(k, rows),
            fortran.number(k, 1.0, a.kind),
            element_address(k, matrix, offset.scale(n * n)),
            fortran.integer(k, max(n, 1)),
            element_address(k, out, offset.scale(rows * columns)),
            fortran.integer(k, max(columns, 1)),
        )

    def run(k: Kernel) -> None:
        tiled = by_tiles(k, a, rows, columns)
        if left or not tiled:
            fill(k, out, right_side)
        one = one_by_tiles if tiled else one_by_blas
        if out.numel:
            each_matrix(k, math.prod(batch), lambda offset: one(k, offset))

    b.add(Extern([right_side], [matrix] if left else [matrix, right_side], [out, turned], run))
    return out


def joint_batch(a: Tensor, y: Tensor) -> tuple[int, ...]:
    return broadcast(a.shape[:-2], y.shape[:-2])


def flipped(b: Builder, a: Tensor) -> Tensor:
    """Transpose the last two dimensions."""
    return transpose(b, a, -1, -2)


@operation("aten.linalg_solve_triangular.default")
def _solve_triangular(
    b: Builder, a: Tensor, y: Tensor, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    triangles = b.matrices.triangles(b.current.args[1])
    symmetric = b.out() in b.matrices.symmetric
    return solve_triangular(b, a, y, upper, left, unitriangular, triangles, symmetric)


@operation("aten.triangular_solve.default")
def _old_triangular_solve(
    b: Builder, y: Tensor, a: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> list[Tensor]:
    matrix = flipped(b, a) if transpose else a
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
        inside = conditions.within(k, ix.add(index[-1], index[-2].scale(-1)), 0, 1)
        return k.select(inside, const(1, kind), const(0, kind))

    return b.map(shape, kind, (), emit, 2)
