"""Lower products of matrices and vectors: loops that fuse with others, register tiles, or BLAS."""

from __future__ import annotations

import math

from .. import access, dense, fortran
from ..builder import Builder, operation
from ..elements import Reg, const, is_float
from ..index import Linear
from ..kernel import Kernel
from ..loops import loop
from ..stages import Extern
from ..tensors import ANYWHERE, SAME_PLACE, SAME_ROW, Index, Map, Tensor, broadcast
from ..triangles import ANY, Triangles
from .joins import concatenate
from .reductions import reduce_axes
from .views import expand, select, transpose

LOOPED = 4096  # multiplications up to which a product of two matrices is loops that may fuse
LARGEST_TILED = 1024  # rows or columns up to which our tiles beat BLAS where these know of triangles
LARGEST_FULL = 400  # and where not: beyond, BLAS packs its operands


def _sum_of_products(b: Builder, products: Tensor, axis: int) -> Tensor:
    kind = products.kind
    wide = kind if not is_float(kind) or axis != len(products.shape) - 1 else "f64"
    finish = None if wide == kind else (lambda k, regs: [k.convert(regs[0], kind)])
    return reduce_axes(
        b,
        [products],
        [axis],
        [const(0, wide)],
        lambda k, a, v: [k.accumulate_term(a[0], v[0])],
        finish=finish,
        kinds=[kind],
    )[0]


def base_of(x: Tensor) -> tuple[Tensor, bool]:
    """Return the tensor whose rows are contiguous, and whether ``x`` is its transpose."""
    if isinstance(x, Map) and x.transposed is not None:
        return x.transposed, True
    return x, False


@operation("aten.dot.default", "aten.vdot.default", "aten.inner.default")
def _dot(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    if len(x.shape) != 1 or len(y.shape) != 1:
        raise b.refuse("inner products of tensors with several dimensions are not supported")
    products = b.pointwise(lambda k, u, v: k.product(u, v), x, y, kind=x.kind, compute=x.kind)
    return _sum_of_products(b, products, 0)


def matrix_vector(b: Builder, a: Tensor, x: Tensor) -> Tensor:
    """``a[n, m] @ x[m]``, reading the matrix along its rows in memory."""
    base, flipped = base_of(a)
    kind = a.kind
    if flipped:
        # Rows of the base are columns of ``a``: sum over its first dimension, scaled by x.
        products = b.map(
            base.shape,
            kind,
            [(base, SAME_PLACE), (x, SAME_ROW)],
            lambda k, index: k.product(k.read(base, index), k.read(x, index[:1])),
        )
        return _sum_of_products(b, products, 0)
    products = b.map(
        a.shape,
        kind,
        [(a, SAME_PLACE), (x, ANYWHERE)],
        lambda k, index: k.product(k.read(a, index), k.read(x, index[1:])),
    )
    return _sum_of_products(b, products, 1)


@operation("aten.mv.default")
def _mv(b: Builder, a: Tensor, x: Tensor) -> Tensor:
    return matrix_vector(b, a, x)


@operation("aten.mm.default", "aten.bmm.default")
def _mm(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    left, right = (b.matrices.triangles(each) for each in b.current.args[:2])
    return matrix_product(b, x, y, (left, right), b.matrices.read_only.get(b.out()))


def matrix_product(
    b: Builder,
    x: Tensor,
    y: Tensor,
    triangles: tuple[Triangles, Triangles] = (ANY, ANY),
    wanted: str | None = None,
) -> Tensor:
    """Product of two matrices, or of two stacks of as many matrices.

    :param triangles: to which the factors are confined.
    :param wanted: the only triangle of the result that is read, if any.
    """
    *batch, rows, inner = x.shape
    columns = y.shape[-1]
    if not batch and columns == 1:
        return b.reshape(matrix_vector(b, x, b.reshape(y, (inner,))), (rows, 1))
    if not batch and rows == 1:
        return b.reshape(matrix_vector(b, transpose(b, y, 0, 1), b.reshape(x, (inner,))), (1, columns))
    if inner == 1 or rows * inner * columns < LOOPED or not is_float(x.kind):
        return _looped_product(b, x, y)
    return _large_product(b, x, y, triangles, wanted)


def _looped_product(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    *batch, rows, inner = x.shape
    columns = y.shape[-1]
    depth = len(batch)
    _, flipped = base_of(y)
    if flipped and columns < inner:
        # Both operands are contiguous along the inner dimension.
        def term_last(k: Kernel, index: Index) -> Reg:
            lead, (i, j, s) = index[:depth], index[depth:]
            return k.product(k.read(x, (*lead, i, s)), k.read(y, (*lead, s, j)))

        shape = (*batch, rows, columns, inner)
        return _sum_of_products(b, b.map(shape, x.kind, [(x, False), (y, False)], term_last), depth + 2)

    def term(k: Kernel, index: Index) -> Reg:
        lead, (i, s, j) = index[:depth], index[depth:]
        return k.product(k.read(x, (*lead, i, s)), k.read(y, (*lead, s, j)))

    shape = (*batch, rows, inner, columns)
    return _sum_of_products(
        b, b.map(shape, x.kind, [(x, SAME_ROW if not batch else ANYWHERE), (y, ANYWHERE)], term), depth + 1
    )


def _large_product(
    b: Builder, x: Tensor, y: Tensor, triangles: tuple[Triangles, Triangles], wanted: str | None
) -> Tensor:
    *batch, rows, inner = x.shape
    columns = y.shape[-1]
    left, left_flipped = base_of(x)
    right, right_flipped = base_of(y)
    out = b.new((*batch, rows, columns), x.kind)
    turned = b.new((inner, columns) if right_flipped else (), x.kind)  # the right factor by rows

    def one_by_tiles(k: Kernel, offset: Linear) -> None:
        size = [dense.i64(each) for each in (rows, columns, inner)]
        factor = element_address(k, right, offset.scale(inner * columns))
        if right_flipped:
            dense.call(k, dense.transpose(k.module, k.lanes), k.pointer(turned), factor, size[1], size[2])
            factor = k.pointer(turned)
        by_row, by_column = (1, rows) if left_flipped else (inner, 1)
        first, second = (next(iter(each), None) for each in triangles)
        dense.call(
            k,
            dense.product(k.module, k.lanes, first, second, wanted),
            element_address(k, out, offset.scale(rows * columns)),
            size[1],
            element_address(k, left, offset.scale(rows * inner)),
            dense.i64(by_row),
            dense.i64(by_column),
            factor,
            size[1],
            *size,
        )

    def one_by_blas(k: Kernel, offset: Linear) -> None:
        # Fortran sees the transposes: out' = right' left'.
        fortran.call(
            k,
            "blas",
            ("d" if x.kind == "f64" else "s") + "gemm",
            fortran.character(k, "T" if right_flipped else "N"),
            fortran.character(k, "T" if left_flipped else "N"),
            fortran.integer(k, columns),
            fortran.integer(k, rows),
            fortran.integer(k, inner),
            fortran.number(k, 1.0, x.kind),
            element_address(k, right, offset.scale(inner * columns)),
            fortran.integer(k, inner if right_flipped else columns),
            element_address(k, left, offset.scale(rows * inner)),
            fortran.integer(k, rows if left_flipped else inner),
            fortran.number(k, 0.0, x.kind),
            element_address(k, out, offset.scale(rows * columns)),
            fortran.integer(k, columns),
        )

    def run(k: Kernel) -> None:
        small = wanted or any(triangles) or max(rows, inner, columns) <= LARGEST_FULL
        one = one_by_tiles if small and by_tiles(k, x, rows, inner, columns) else one_by_blas
        loop(k, math.prod(batch), 1, lambda offset: one(k, offset))

    b.add(Extern([], [left, right], [out, turned], run))
    return out


def by_tiles(k: Kernel, matrix: Tensor, *sizes: int) -> bool:
    """Say whether our own tiles are better for matrices of such sizes than BLAS and LAPACK."""
    return matrix.kind == "f64" and k.lanes >= 4 and max(sizes) <= LARGEST_TILED


def element_address(k: Kernel, tensor: Tensor, position: Linear) -> str:
    """Return the address of the element at a flat position."""
    return access.address(k, k.pointer(tensor), tensor.kind, k.index_value(position))


@operation("aten.linear.default")
def _linear(b: Builder, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    flat = b.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    product = b.reshape(matrix_product(b, flat, transpose(b, weight, 0, 1)), b.out().shape)
    return product if bias is None else b.pointwise(lambda k, u, v: k.add(u, v), product, bias)


@operation("aten.matmul.default")
def _matmul(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    if len(x.shape) == 1 and len(y.shape) == 1:
        return _dot(b, x, y)
    if len(x.shape) == 2 and len(y.shape) == 1:
        return matrix_vector(b, x, y)
    if len(x.shape) == 1 and len(y.shape) == 2:
        return matrix_vector(b, transpose(b, y, 0, 1), x)
    if len(x.shape) == 2 and len(y.shape) == 2:
        return matrix_product(b, x, y)
    left = b.reshape(x, (1, *x.shape)) if len(x.shape) == 1 else x
    right = b.reshape(y, (*y.shape, 1)) if len(y.shape) == 1 else y
    batch = broadcast(left.shape[:-2], right.shape[:-2])
    product = matrix_product(
        b,
        expand(b, left, (*batch, *left.shape[-2:])),
        expand(b, right, (*batch, *right.shape[-2:])),
    )
    return b.reshape(product, b.out().shape)


@operation("aten.linalg_cross.default", "aten.cross.default")
def _cross(b: Builder, x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    shape = broadcast(x.shape, y.shape)
    axis = dim + len(shape) if dim < 0 else dim
    left, right = expand(b, x, shape), expand(b, y, shape)
    parts = []
    for first, second in ((1, 2), (2, 0), (0, 1)):
        pieces = [select(b, each, axis, place) for each in (left, right) for place in (first, second)]

        def minor(k: Kernel, p: Reg, q: Reg, r: Reg, s: Reg) -> Reg:
            return k.sub(k.mul(p, s), k.mul(q, r))

        parts.append(b.pointwise(minor, *pieces, cost=3))
    wide = [b.reshape(part, (*part.shape[:axis], 1, *part.shape[axis:])) for part in parts]
    return concatenate(b, wide, axis, b.out_kind())
