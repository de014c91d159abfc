"""Hand matrices to LAPACK.

LAPACK reads matrices by columns, so it sees the transpose of each of ours; its callers arrange that this
costs nothing where a matrix is symmetric or triangular.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .. import access
from .. import index as ix
from ..elements import Reg, const
from ..index import Linear
from ..kernel import Kernel
from ..loops import loop, pointwise_loop
from ..tensors import Index, Tensor, memory_of
from .products import element_address


def letter(x: Tensor) -> str:
    return "d" if x.kind == "f64" else "s"


def num_matrices(x: Tensor) -> int:
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
    return access.load(k, element_address(k, info, offset), "i32", 1, None, False)


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


def failed(k: Kernel, info: Tensor, offset: Linear) -> Reg:
    return k.fresh(f"icmp ne i32 {status(k, info, offset).text}, 0", "i1")
