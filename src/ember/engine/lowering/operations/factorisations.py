"""Lower singular values and QR factors."""

from __future__ import annotations

import math

from .. import fortran
from ..builder import Builder, operation
from ..elements import BYTES
from ..index import Linear
from ..kernel import Kernel
from ..stages import Extern
from ..tensors import Tensor
from .insets import triangle
from .lapack import each_matrix, failed, fill, letter, spoil
from .products import element_address
from .views import narrow, transpose


@operation("aten._linalg_svd.default")
def _linalg_svd(
    b: Builder, a: Tensor, full_matrices: bool = False, compute_uv: bool = True, driver: str | None = None
) -> list[Tensor]:
    *batch, m, n = a.shape
    small, large = min(m, n), max(m, n)
    copy, values = b.new(a.shape, a.kind), b.new((*batch, small), a.kind)
    # By columns LAPACK sees the transpose, V S U': its left vectors are our right ones.
    left = b.new((*batch, m, m if full_matrices else small) if compute_uv else (*batch, 1), a.kind)
    right = b.new((*batch, n if full_matrices else small, n) if compute_uv else (*batch, 1), a.kind)
    info = b.new(batch, "i32")
    work = b.new((8 * small * small + 16 * large + 64,), a.kind)
    integers = b.new((8 * small + 8,), "i32")
    job = ("A" if full_matrices else "S") if compute_uv else "N"

    def run(k: Kernel) -> None:
        fill(k, copy, a)

        def one(offset: Linear) -> None:
            fortran.call(
                k,
                "lapack",
                letter(a) + "gesdd",
                fortran.character(k, job),
                fortran.integer(k, n),
                fortran.integer(k, m),
                element_address(k, copy, offset.scale(m * n)),
                fortran.integer(k, max(n, 1)),
                element_address(k, values, offset.scale(small)),
                element_address(k, right, offset.scale(math.prod(right.shape[len(batch) :]))),
                fortran.integer(k, max(n, 1)),
                element_address(k, left, offset.scale(math.prod(left.shape[len(batch) :]))),
                fortran.integer(k, max(left.shape[-1], 1)),
                k.pointer(work),
                fortran.integer(k, work.numel),
                k.pointer(integers),
                element_address(k, info, offset),
            )
            spoil(k, failed(k, info, offset), values, offset, small)

        if a.numel:
            each_matrix(k, math.prod(batch), one)

    b.add(Extern([a], [], [copy, values, left, right, info, work, integers], run))
    if not compute_uv:
        return [b.full(b.out(0).shape, 0, a.kind), values, b.full(b.out(2).shape, 0, a.kind)]
    if not a.numel:
        raise b.refuse("singular vectors of empty matrices are not supported")
    return [left, values, right]


@operation("aten.linalg_qr.default")
def _linalg_qr(b: Builder, a: Tensor, mode: str = "reduced") -> list[Tensor]:
    *batch, m, n = a.shape
    small = min(m, n)
    columns = m if mode == "complete" else small
    if not a.numel:
        raise b.refuse("QR factors of empty matrices are not supported")
    # Both are stored by columns; the second has room for all columns of Q.
    factors, vectors = b.new((*batch, n, m), a.kind), b.new((*batch, max(columns, n), m), a.kind)
    scales, info = b.new((*batch, small), a.kind), b.new(batch, "i32")
    work = b.new((64 * max(m, n),), a.kind)

    def run(k: Kernel) -> None:
        fill(k, factors, a, flipped=True)

        def one(offset: Linear) -> None:
            address = element_address(k, factors, offset.scale(m * n))
            tau = element_address(k, scales, offset.scale(small))
            code = element_address(k, info, offset)
            tail = (k.pointer(work), fortran.integer(k, work.numel), code)
            rows = fortran.integer(k, m)
            fortran.call(
                k, "lapack", letter(a) + "geqrf", rows, fortran.integer(k, n), address, rows, tau, *tail
            )
            if mode == "r":
                return
            target = element_address(k, vectors, offset.scale(max(columns, n) * m))
            _copy(k, address, target, m * n, a.kind)
            fortran.call(
                k,
                "lapack",
                letter(a) + "orgqr",
                rows,
                fortran.integer(k, columns),
                fortran.integer(k, small),
                target,
                rows,
                tau,
                *tail,
            )

        each_matrix(k, math.prod(batch), one)

    b.add(Extern([a], [], [factors, vectors, scales, info, work], run))
    upper = triangle(b, transpose(b, factors, -1, -2), 0, lower=False)
    rows_of_r = m if mode == "complete" else small
    r = narrow(b, upper, len(batch), 0, (*batch, rows_of_r, n))
    if mode == "r":
        return [b.full(b.out(0).shape, 0, a.kind), r]
    q = narrow(b, transpose(b, vectors, -1, -2), len(batch) + 1, 0, (*batch, m, columns))
    return [q, r]


def _copy(k: Kernel, source: str, target: str, count: int, kind: str) -> None:
    """Copy elements from one address to another."""
    name = "llvm.memcpy.p0.p0.i64"
    k.module.declare(name, "void %s(ptr, ptr, i64, i1)")
    k.line(f"call void @{name}(ptr {target}, ptr {source}, i64 {count * BYTES[kind]}, i1 false)")
