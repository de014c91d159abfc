"""Find which matrices are zero beyond a triangle, and of which only one triangle is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ember.engine.program import Node, Program, Value

from .dense import LOWER, UPPER

Triangles = frozenset[str]
ANY: Triangles = frozenset()
DIAGONAL: Triangles = frozenset((LOWER, UPPER))
_SWAPPED = {LOWER: UPPER, UPPER: LOWER}
_LARGEST = 1024  # rows of a constant whose elements are looked at


@dataclass
class Matrices:
    """What is known of the matrices of programs.

    :ivar confined: the triangles beyond which they are zero.
    :ivar read_only: those of which one triangle is read and nothing else, with which.
    :ivar adjoints: for factors LU, the ways in which systems are solved with them: as they are, or adjoint.
    :ivar symmetric: those that equal their transposes.
    """

    confined: dict[Value, Triangles] = field(default_factory=dict)
    read_only: dict[Value, str] = field(default_factory=dict)
    adjoints: dict[Value, set[bool]] = field(default_factory=dict)
    symmetric: set[Value] = field(default_factory=set)

    def study(self, program: Program) -> None:
        """Learn about the values of a program, those in its regions left out."""
        self.confined.update(confined(program))
        self.read_only.update(read_only(program))
        self.symmetric.update(symmetric(program))
        for node in program.nodes:
            if node.op == "aten.linalg_lu_solve.default":
                adjoint = bool(node.kwargs.get("adjoint", node.args[4] if len(node.args) > 4 else False))
                self.adjoints.setdefault(node.args[0], set()).add(adjoint)

    def triangles(self, value: Value) -> Triangles:
        """Return the triangles to which a matrix is confined."""
        return self.confined.get(value, ANY)


def confined(program: Program) -> dict[Value, Triangles]:
    """Return the triangles to which matrices are confined; a diagonal one is confined to both.

    As in BLAS, zeros beyond a triangle count as zeros whatever they are multiplied by.
    """
    found = {value: _of_constant(data) for value, data in program.constants.items()}
    for node in program.nodes:
        rule = _RULES.get(node.op)
        if rule is not None and len(node.outputs[0].shape) >= 2:
            found[node.outputs[0]] = rule(node, lambda item: found.get(item, ANY))
    return found


def read_only(program: Program) -> dict[Value, str]:
    """Return the matrices of which nothing but one triangle is read, with which."""
    wanted: dict[Value, set[str]] = {}
    for node in program.nodes:
        for item in node.inputs():
            wanted.setdefault(item, set()).add(_selected(node))
        for region in node.regions:
            for item in region.outputs:
                wanted.setdefault(item, set()).add("")
    for item in program.outputs:
        wanted.setdefault(item, set()).add("")
    single = {value: next(iter(parts)) for value, parts in wanted.items() if len(parts) == 1}
    return {value: part for value, part in single.items() if part}


def symmetric(program: Program) -> set[Value]:
    """Find symmetric matrices: made of one triangle, and congruent to such by a triangular factor.

    The gradient of a Cholesky factor is of this kind: ``L'⁻¹ S L⁻¹``.
    """
    makers = {output: node for node in program.nodes for output in node.outputs}
    found: set[Value] = set()

    def transpose_of(value: Any) -> Any:
        node = makers.get(value)
        return node.args[0] if node is not None and _transposes(node) else None

    def is_mirrored(one: Any, other: Any) -> bool:
        """Say whether ``other`` is the transpose of ``one`` without the diagonal."""
        part, rest = makers.get(one), makers.get(transpose_of(other))
        ops = ("aten.tril.default", "aten.triu.default")
        if part is None or rest is None or part.op not in ops or part.op != rest.op:
            return False
        strict = {ops[0]: -1, ops[1]: 1}[part.op]
        source, offset = rest.args[0], rest.args[1] if len(rest.args) > 1 else 0
        return (source is one or source is part.args[0]) and part.args[1:] in ((), (0,)) and offset == strict

    def is_congruent(node: Node) -> bool:
        matrix, right = node.args[:2]
        inner = makers.get(right)
        if inner is None or inner.op != node.op or len(matrix.shape) != 2 or inner.args[1] not in found:
            return False
        other = inner.args[0]
        opposite = transpose_of(other) is matrix or transpose_of(matrix) is other
        options = {**node.kwargs, "left": True, "upper": not node.kwargs.get("upper")}
        return opposite and node.kwargs.get("left") is False and {"left": True, **inner.kwargs} == options

    for node in program.nodes:
        first, second = (*node.args, None, None)[:2]
        if node.op == "aten.add.Tensor" and "alpha" not in node.kwargs:
            good = is_mirrored(first, second) or is_mirrored(second, first)
        elif node.op in ("aten.mul.Scalar", "aten.mul.Tensor", "aten.div.Scalar", "aten.div.Tensor"):
            good = first in found and not (isinstance(second, Value) and second.shape)
        else:
            good = node.op == "aten.linalg_solve_triangular.default" and is_congruent(node)
        if good:
            found.add(node.outputs[0])
    return found


def _selected(node: Node) -> str:
    offset = node.args[1] if len(node.args) > 1 else node.kwargs.get("diagonal", 0)
    if node.op == "aten.tril.default" and offset <= 0:
        return LOWER
    return UPPER if node.op == "aten.triu.default" and offset >= 0 else ""


def _of_constant(data: torch.Tensor) -> Triangles:
    if data.dim() != 2 or data.shape[0] != data.shape[1] or not 1 < data.shape[0] <= _LARGEST:
        return ANY
    parts = ((LOWER, data.triu(1)), (UPPER, data.tril(-1)))
    return frozenset(name for name, beyond in parts if not beyond.any())


Look = Callable[[Any], Triangles]


def _cut(node: Node, look: Look) -> Triangles:
    offset = node.args[1] if len(node.args) > 1 else node.kwargs.get("diagonal", 0)
    own = {LOWER} if node.op == "aten.tril.default" and offset <= 0 else set()
    if node.op == "aten.triu.default" and offset >= 0:
        own = {UPPER}
    return look(node.args[0]) | own


def _factor(node: Node, look: Look) -> Triangles:
    upper = node.kwargs.get("upper", node.args[1] if len(node.args) > 1 else False)
    return frozenset((UPPER if upper else LOWER,))


def _same(node: Node, look: Look) -> Triangles:
    return look(node.args[0])


def _transposes(node: Node) -> bool:
    """Say whether an operation exchanges the last two dimensions and nothing else."""
    rank = len(node.outputs[0].shape)
    if _RULES.get(node.op) is not _flipped or rank < 2:
        return False
    order = list(range(rank))
    if node.op == "aten.permute.default":
        order = [each % rank for each in node.args[1]]
    else:
        one, other = node.args[1:3] if len(node.args) > 2 else (-2, -1)
        order[one], order[other] = order[other], order[one]
    return order == [*range(rank - 2), rank - 1, rank - 2]


def _flipped(node: Node, look: Look) -> Triangles:
    return frozenset(_SWAPPED[each] for each in look(node.args[0])) if _transposes(node) else ANY


def _sum(node: Node, look: Look) -> Triangles:
    shape = node.outputs[0].shape
    if any(not isinstance(each, Value) or each.shape != shape for each in node.args[:2]):
        return ANY
    return look(node.args[0]) & look(node.args[1])


def _product(node: Node, look: Look) -> Triangles:
    shape = node.outputs[0].shape
    return frozenset().union(
        *(look(each) for each in node.args[:2] if isinstance(each, Value) and each.shape == shape)
    )


def _quotient(node: Node, look: Look) -> Triangles:
    first = node.args[0]
    return look(first) if isinstance(first, Value) and first.shape == node.outputs[0].shape else ANY


def _matrix_product(node: Node, look: Look) -> Triangles:
    return look(node.args[0]) & look(node.args[1])


def _on_diagonal(node: Node, look: Look) -> Triangles:
    names = ("offset", "dim1", "dim2")
    first = 1 if node.op == "aten.diag_embed.default" else 2  # place of the offset
    given = {"offset": 0, "dim1": -2, "dim2": -1}
    given.update(zip(names, node.args[first:], strict=False), **node.kwargs)
    rank = len(node.outputs[0].shape)
    dims = {given["dim1"] % rank, given["dim2"] % rank}
    return DIAGONAL if given["offset"] == 0 and dims == {rank - 2, rank - 1} else ANY


_RULES: dict[str, Callable[[Node, Look], Triangles]] = {
    "aten.tril.default": _cut,
    "aten.triu.default": _cut,
    "aten.linalg_cholesky_ex.default": _factor,
    "aten.linalg_cholesky.default": _factor,
    "aten.cholesky.default": _factor,
    "aten.transpose.int": _flipped,
    "aten.mT.default": _flipped,
    "aten.t.default": _flipped,
    "aten.numpy_T.default": _flipped,
    "aten.mH.default": _flipped,
    "aten.adjoint.default": _flipped,
    "aten.permute.default": _flipped,
    "aten.neg.default": _same,
    "aten.clone.default": _same,
    "aten.add.Tensor": _sum,
    "aten.sub.Tensor": _sum,
    "aten.mul.Tensor": _product,
    "aten.mul.Scalar": _product,
    "aten.div.Tensor": _quotient,
    "aten.div.Scalar": _quotient,
    "aten.mm.default": _matrix_product,
    "aten.bmm.default": _matrix_product,
    "aten.diagonal_backward.default": _on_diagonal,
    "aten.diag_embed.default": _on_diagonal,
}
