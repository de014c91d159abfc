"""Define tensor programs: pure, statically shaped, single-assignment lists of ATen operations.

A :class:`Program` is what capture produces, what passes rewrite and what lowering consumes. Views and
in-place operations of the captured function are gone: every value is immutable and logically contiguous,
and an operation such as ``aten.select.int`` stands for the selected *value*, not for an alias.

Besides ATen operations (named like ``aten.add.Tensor``) there are those of :mod:`ember.engine.random`
(random_bits uniform fold_in permutation), of :mod:`ember.engine.randomness.rejection` (log_gamma poisson
binomial von_mises_from_key), which are pure functions of a key, of :mod:`ember.engine.randomness.implicit`
(gamma_grad dirichlet_grad) and of :mod:`ember.engine.passes.workspace`; and there are three nodes with
regions. ``carry``, ``xs`` and ``outer`` are tuples of :class:`Value`; ``outer`` are the values that the
regions' functions closed over, and come last among the regions' inputs:

``while_loop``  args ``(carry, outer)``, regions ``(condition, body)``; both take ``carry + outer``;
    condition returns one bool scalar, body returns the next carry; the node's outputs are the last carry.
``cond``        args ``(predicate, outer)``, regions ``(if_true, if_false)``; both take ``outer``.
``scan``        args ``(carry, xs, outer)``, attributes ``length``, ``reverse`` and ``num_carry``; the
    region takes ``carry + slices of xs + outer`` and returns ``next carry + ys``; the node's outputs are
    the last carry, then each ``y`` stacked along a new leading dimension. With ``reverse``, steps run from
    the last slice to the first and ``ys`` keep the order of ``xs``.

Regions have constants of their own, and see nothing else of their surroundings. An output may be an input
or a constant, and the same value may be an output twice.

**Core operations.** Operations with the overloads that occur; arguments are ATen's, so that tensors of one
operation may still differ in dtype and shape (promotion and broadcasting as in ATen), and a tensor's place
may hold a Python number:

- fills: full; others with constant results are executed during capture
- casts and copies: _to_copy
- pointwise: add sub rsub mul div (rounding modes included) pow neg abs sign sgn reciprocal sqrt rsqrt exp
  exp2 expm1 log log1p log2 log10 sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh sigmoid
  logit floor ceil round trunc frac remainder fmod floor_divide maximum minimum fmax fmin clamp clamp_min
  clamp_max copysign signbit where masked_fill eq ne lt le gt ge isnan logical_and/or/not/xor bitwise_*
  shifts sinc xlogy
- special: erf erfc erfinv lgamma mvlgamma digamma polygamma igamma igammac i0 special_{i0e i1 i1e erfcx
  entr ndtri log_ndtr xlog1py zeta}
- reductions: sum mean var std (…_mean) prod amax amin max min argmax argmin any all logsumexp median mode
  count_nonzero nansum; scans cumsum cumprod cummax cummin logcumsumexp; _softmax _log_softmax and their
  _backward_data
- shapes: view expand permute transpose t select slice diagonal unfold flip roll repeat cat stack
  constant_pad_nd (and the other pads with their backwards) as_strided (of a contiguous vector) tril triu
  diag_embed; select_scatter slice_scatter diagonal_scatter as_strided_scatter; select_backward
  slice_backward diagonal_backward unfold_backward
- indexing: index gather index_select take embedding index_put scatter scatter_add scatter_reduce index_add
  index_copy index_fill masked_scatter embedding_dense_backward; indices are never masks
- ordering: sort topk kthvalue searchsorted bucketize
- linear algebra: mm bmm mv dot; linalg_cholesky_ex cholesky_solve cholesky_inverse linalg_solve_triangular
  triangular_solve linalg_inv_ex _linalg_solve_ex linalg_lu_factor_ex linalg_lu_solve _linalg_det
  _linalg_slogdet _linalg_eigh _linalg_svd linalg_qr; where a factorisation fails (``info`` is not 0) its
  floating-point results are NaN for that matrix

What :mod:`ember.engine.decompositions.table` lists never occurs, nor do operations that random generators,
masks of unknown content or other data-dependent shapes have a part in. With a key, random operations become
those that :mod:`ember.engine.randomness.draws` lists. An operation that is not in this list may occur, if a
function uses it: the interpreter runs any ATen operation, and lowering refuses what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """A tensor in a program; compared by identity."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __repr__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"%{id(self) & 0xFFFFF:05x}:{kind}{list(self.shape)}"


@dataclass(eq=False, slots=True)
class Node:
    """One operation of a program."""

    op: str
    args: tuple[Any, ...]  # as the ATen signature has them; tensors are Values, possibly in nested lists
    kwargs: dict[str, Any]
    outputs: tuple[Value, ...]
    regions: tuple[Program, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    where: str | None = None  # the user's file and line
    site: str | None = None  # the sample site whose log density this belongs to

    def inputs(self) -> Iterator[Value]:
        """Yield the values that this node reads, in order, with repetitions."""
        yield from _values_in(self.args)
        yield from _values_in(tuple(self.kwargs.values()))


@dataclass(eq=False, slots=True)
class Program:
    """A pure function from input tensors to output tensors."""

    inputs: list[Value]
    constants: dict[Value, torch.Tensor]
    nodes: list[Node]
    outputs: list[Value]

    def num_operations(self) -> int:
        """Count the nodes, those inside regions included."""
        return sum(1 + sum(region.num_operations() for region in node.regions) for node in self.nodes)


def _values_in(items: tuple[Any, ...] | list[Any]) -> Iterator[Value]:
    for item in items:
        if isinstance(item, Value):
            yield item
        elif isinstance(item, (tuple, list)):
            yield from _values_in(item)
