"""Lower symmetric eigenproblems."""

from __future__ import annotations

from .. import fortran
from ..builder import Builder, operation
from ..index import Linear
from ..kernel import Kernel
from ..stages import Extern
from ..tensors import Tensor
from .lapack import each_matrix, failed, fill, letter, num_matrices, spoil
from .products import element_address
from .views import transpose


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
            fortran.call(
                k,
                "lapack",
                letter(a) + "syevd",
                fortran.character(k, "V" if compute_v else "N"),
                fortran.character(k, "U" if uplo.upper() == "L" else "L"),
                fortran.integer(k, n),
                element_address(k, vectors, offset.scale(n * n)),
                fortran.integer(k, max(n, 1)),
                element_address(k, values, offset.scale(n)),
                k.pointer(work),
                fortran.integer(k, work.numel),
                k.pointer(integers),
                fortran.integer(k, integers.numel),
                element_address(k, info, offset),
            )
            spoil(k, failed(k, info, offset), values, offset, n)

        if a.numel:
            each_matrix(k, num_matrices(a), one)

    b.add(Extern([a], [], [vectors, values, info, work, integers], run))
    if not compute_v:
        return [values, b.full(b.out(1).shape, 0, a.kind)]
    return [values, transpose(b, vectors, -1, -2)]
