"""Lower LU factors, general systems and determinants."""

from __future__ import annotations

import math
from typing import Any

from .. import fortran
from ..builder import Builder, operation
from ..elements import Reg, const
from ..index import Linear
from ..kernel import Kernel
from ..stages import Extern
from ..tensors import Index, Tensor
from .arithmetic import sign
from .elementary import elementary
from .lapack import each_matrix, failed, fill, letter, num_matrices, spoil
from .products import element_address
from .reductions import reduce_axes, total
from .triangular import identity, joint_batch
from .views import expand, strided, transpose


# LU -------------------------------------------------------------------------------------------------------
def lu_factor(b: Builder, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors by columns, the pivots, and LAPACK's codes."""
    *batch, m, n = a.shape
    factors = b.new((*batch, n, m), a.kind)
    pivots, info = b.new((*batch, min(m, n)), "i32"), b.new(batch, "i32")

    def run(k: Kernel) -> None:
        fill(k, factors, a, flipped=True)

        def one(offset: Linear) -> None:
            fortran.call(
                k,
                "lapack",
                letter(a) + "getrf",
                fortran.integer(k, m),
                fortran.integer(k, n),
                element_address(k, factors, offset.scale(m * n)),
                fortran.integer(k, max(m, 1)),
                element_address(k, pivots, offset.scale(min(m, n))),
                element_address(k, info, offset),
            )

        each_matrix(k, num_matrices(a), one)

    b.add(Extern([a], [], [factors, pivots, info], run))
    return factors, pivots, info


def lu_solve(
    b: Builder, factors: Tensor, pivots: Tensor, info: Tensor | None, y: Tensor, adjoint: bool = False
) -> Tensor:
    """Solve with factors stored by columns; a singular matrix gives NaN."""
    batch = joint_batch(factors, y)
    n, columns = y.shape[-2:]
    stored = expand(b, factors, (*batch, *factors.shape[-2:]))
    swaps = expand(b, pivots, (*batch, n))
    right_side = expand(b, y, (*batch, n, columns))
    out, code = b.new((*batch, columns, n), y.kind), b.new(batch, "i32")
    states = None if info is None else expand(b, info, batch)

    def run(k: Kernel) -> None:
        fill(k, out, right_side, flipped=True)

        def one(offset: Linear) -> None:
            fortran.call(
                k,
                "lapack",
                letter(y) + "getrs",
                fortran.character(k, "T" if adjoint else "N"),
                fortran.integer(k, n),
                fortran.integer(k, columns),
                element_address(k, stored, offset.scale(n * n)),
                fortran.integer(k, max(n, 1)),
                element_address(k, swaps, offset.scale(n)),
                element_address(k, out, offset.scale(n * columns)),
                fortran.integer(k, max(n, 1)),
                element_address(k, code, offset),
            )
            if states is not None:
                spoil(k, failed(k, states, offset), out, offset, n * columns)

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
    if b.factored.get(lu, adjoint) is not adjoint:
        raise b.refuse("it is not clear whether these factors are those of a matrix or of its transpose")
    factors = transpose(b, lu, -1, -2)
    if left:
        return lu_solve(b, factors, pivots, None, y, adjoint)
    flipped = lu_solve(b, factors, pivots, None, transpose(b, y, -1, -2), not adjoint)
    return transpose(b, flipped, -1, -2)


@operation("aten._linalg_solve_ex.default")
def _linalg_solve_ex(b: Builder, a: Tensor, y: Tensor, left: bool = True, check_errors: bool = False) -> Any:
    vector = len(y.shape) == 1 or (len(y.shape) == len(a.shape) - 1 and y.shape == a.shape[:-1])
    right_side = b.reshape(y, (*y.shape, 1)) if vector else y
    factors, pivots, info, lu, of_transpose = _factors_for_gradient(b, a, 1)
    if left or vector:
        solution = lu_solve(b, factors, pivots, info, right_side, adjoint=of_transpose)
    else:
        flipped = lu_solve(b, factors, pivots, info, transpose(b, right_side, -1, -2), not of_transpose)
        solution = transpose(b, flipped, -1, -2)
    if vector:
        solution = b.reshape(solution, b.out().shape)
    return [solution, lu, pivots, info]


def _factors_for_gradient(
    b: Builder, a: Tensor, position: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, bool]:
    """Factorise a matrix or its transpose, as the gradient expects.

    torch factorises the transpose if the matrix is contiguous in memory. Its gradients know, and solve with
    the adjoint if it is not; a program does not say, but the operations that read the factors do.

    :returns: factors by columns, pivots, codes, the factors as torch has them, whether of the transpose.
    """
    adjoints = b.matrices.adjoints.get(b.out(position), {False})
    if len(adjoints) > 1:
        raise b.refuse("its factors are used in both directions, as second derivatives do")
    of_transpose = adjoints != {True}
    factors, pivots, info = lu_factor(b, transpose(b, a, -1, -2) if of_transpose else a)
    lu = transpose(b, factors, -1, -2)
    b.factored[lu] = not of_transpose
    return factors, pivots, info, lu, of_transpose


@operation("aten.linalg_inv_ex.default")
def _linalg_inv_ex(b: Builder, a: Tensor, check_errors: bool = False) -> list[Tensor]:
    factors, pivots, info = lu_factor(b, a)
    return [lu_solve(b, factors, pivots, info, identity(b, a.shape, a.kind)), info]


def _sign_and_diagonal(b: Builder, factors: Tensor, pivots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sign of the permutation, as a float, and the diagonal of U."""
    n = factors.shape[-1]
    kind = factors.kind

    def moved(k: Kernel, index: Index) -> Reg:
        place = k.convert(k.index_value(index[-1].shift(1)), "i32")
        swapped = k.compare("ne", k.read(pivots, index), place)
        return k.select(swapped, const(-1.0, kind), const(1.0, kind))

    signs = b.map(pivots.shape, kind, [(pivots, True)], moved, 2)
    rank = len(pivots.shape)
    permutation = reduce_axes(
        b, [signs], [rank - 1], [const(1.0, kind)], lambda k, a, v: [k.mul(a[0], v[0])]
    )[0]
    batch = factors.shape[:-2]
    strides = [math.prod(batch[d + 1 :]) * n * n for d in range(len(batch))]
    return permutation, strided(b, factors, (*batch, n), (*strides, n + 1), 0)


@operation("aten._linalg_det.default")
def _linalg_det(b: Builder, a: Tensor) -> list[Tensor]:
    factors, pivots, _, lu, _ = _factors_for_gradient(b, a, 1)
    permutation, diagonal = _sign_and_diagonal(b, factors, pivots)
    size = reduce_axes(
        b, [diagonal], [len(diagonal.shape) - 1], [const(1.0, a.kind)], lambda k, u, v: [k.mul(u[0], v[0])]
    )[0]
    value = b.pointwise(lambda k, s, d: k.mul(s, d), permutation, size, kind=a.kind, compute=a.kind)
    return [value, lu, pivots]


@operation("aten._linalg_slogdet.default")
def _linalg_slogdet(b: Builder, a: Tensor) -> list[Tensor]:
    factors, pivots, _, lu, _ = _factors_for_gradient(b, a, 2)
    permutation, diagonal = _sign_and_diagonal(b, factors, pivots)
    last = len(diagonal.shape) - 1
    signs = b.pointwise(sign, diagonal, kind=a.kind, compute=a.kind)
    flips = reduce_axes(b, [signs], [last], [const(1.0, a.kind)], lambda k, u, v: [k.mul(u[0], v[0])])[0]
    whole = b.pointwise(lambda k, s, d: k.mul(s, d), permutation, flips, kind=a.kind, compute=a.kind)
    logs = b.pointwise(
        lambda k, u: elementary("log")(k, k.unary("fabs", u)), diagonal, kind=a.kind, compute=a.kind, cost=30
    )
    return [whole, total(b, logs, [last], a.kind), lu, pivots]
