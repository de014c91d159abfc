"""Read einsum equations with several outputs and plates, and check operands against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ember.errors import message
from ember.poutine.elimination.factors import Dim, Factor, Plates


class Equation(NamedTuple):
    """An einsum equation: symbols of the operands and of the results, and which of them are plates."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    plates: Plates
    sizes: dict[str, int]
    plates_of: dict[int, Plates]  # of each variable: the plates that it always appears with

    def factors(self, operands: Sequence[Tensor]) -> list[Factor]:
        """Return the operands as factors; variables are the numbers of their characters."""
        return [self._factor(dims, tensor) for dims, tensor in zip(self.inputs, operands, strict=True)]

    def _factor(self, dims: str, tensor: Tensor) -> Factor:
        return Factor(tuple(map(self.dim, dims)), tensor, frozenset(dims) & self.plates)

    def dim(self, symbol: str) -> Dim:
        """Return what a symbol is among a factor's dims."""
        return symbol if symbol in self.plates else ord(symbol)


def read(equation: str, operands: Sequence[Tensor], plates: str) -> Equation:
    """Check an equation and its operands.

    :raises ValueError: for what is no equation, other shapes, and results without plates that they need.
    """
    if equation.count("->") != 1 or "." in equation:
        raise ValueError(
            message(
                "this equation is not offered",
                expected="operands->results, e.g. 'ab,bc->a,c'; letters only",
                actual=repr(equation),
            )
        )
    left, right = equation.replace(" ", "").split("->")
    inputs, outputs = tuple(left.split(",")), tuple(right.split(","))
    if len(inputs) != len(operands):
        raise ValueError(f"the equation '{equation}' has {len(inputs)} operands, got {len(operands)}")
    sizes: dict[str, int] = {}
    for dims, tensor in zip(inputs, operands, strict=True):
        repeated = len(set(dims)) < len(dims)
        if (
            repeated
            or len(dims) != tensor.ndim
            or any(sizes.setdefault(d, n) != n for d, n in zip(dims, tensor.shape, strict=True))
        ):
            raise ValueError(
                message(
                    f"an operand does not fit '{dims}' in the equation '{equation}'",
                    expected="distinct dims"
                    if repeated
                    else ", ".join(f"{d}: {sizes.get(d, 'any size')}" for d in dims),
                    actual=f"shape {tuple(tensor.shape)}",
                )
            )
    named: Plates = frozenset(plates)
    plates_of = {
        ord(symbol): frozenset.intersection(*(frozenset(dims) & named for dims in inputs if symbol in dims))
        for symbol in sizes
        if symbol not in named
    }
    for output in outputs:
        missing = sorted({d for d in output if d not in sizes})
        bare = sorted(
            {p for d in output if d not in named and d in sizes for p in plates_of[ord(d)]} - set(output)
        )
        if missing or bare or len(set(output)) < len(output):
            raise ValueError(
                message(
                    f"the result '{output}' of the equation '{equation}' is not defined",
                    expected="distinct dims of the operands, each with all the plates that it is in",
                    actual=f"dims in no operand: {missing}" if missing else f"without the plates {bare}",
                )
            )
    return Equation(inputs, outputs, named, sizes, plates_of)
