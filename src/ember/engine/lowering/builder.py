"""Translate a program into blocks of tensors and stages, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import torch

from ember.engine.program import Node, Program, Value

from .block import Block
from .constants import make_constant
from .elements import DTYPES, KINDS, Reg, const
from .errors import NotLowerable
from .hoisting import home_of
from .index import ZERO, ravel
from .kernel import Kernel
from .promotion import promoted
from .stages import Stage
from .tensors import (
    ANYWHERE,
    Emit,
    Index,
    Map,
    Operands,
    Tensor,
    broadcast,
    broadcast_index,
    broadcast_level,
    squeeze,
    unexpanded,
)
from .triangles import Matrices

Operation = Callable[..., Any]
OPERATIONS: dict[str, Operation] = {}
Number = int | float | bool
Operand = Tensor | Number


def operation(*names: str) -> Callable[[Operation], Operation]:
    """Register the lowering of operations: (builder, *ATen arguments) → tensor or tuple of tensors."""

    def register(function: Operation) -> Operation:
        for name in names:
            OPERATIONS[name] = function
        return function

    return register


class Builder:
    """A block under construction."""

    def __init__(self, parent: Builder | None = None, repeats: bool = False) -> None:
        """Begin a block, inside another builder's for a region.

        :param repeats: the region is run many times: what does not change in it is computed outside.
        """
        self.block = Block()
        self.parent = parent
        self.repeats = repeats
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.values: dict[Value, Tensor] = {}
        self.node: Node | None = None
        self._constants: list[Tensor] = []
        # Whether factors that an operation returns for its gradient are those of the matrix, and not of its
        # transpose.
        self.factored: dict[Tensor, bool] = {} if parent is None else parent.factored
        self.matrices: Matrices = Matrices() if parent is None else parent.matrices

    # Bookkeeping ------------------------------------------------------------------------------------------
    def refuse(self, reason: str) -> NotLowerable:
        """Make the exception that says why the current operation has no machine code."""
        name = self.node.op if self.node is not None else "program"
        return NotLowerable(name, reason, self.node.where if self.node is not None else None)

    def kind(self, dtype: torch.dtype) -> str:
        """Return the element kind of a dtype."""
        if dtype not in KINDS:
            raise self.refuse(f"tensors of dtype {dtype} are not supported")
        return KINDS[dtype]

    def out(self, position: int = 0) -> Value:
        """Return an output of the current operation, for its shape and dtype."""
        return self.current.outputs[position]

    @property
    def current(self) -> Node:
        """The operation being lowered."""
        if self.node is None:
            raise RuntimeError("no operation is being lowered")
        return self.node

    def out_kind(self, position: int = 0) -> str:
        """Return the element kind of an output of the current operation."""
        return self.kind(self.out(position).dtype)

    def new(self, shape: Sequence[int], kind: str) -> Tensor:
        """Make a tensor for a stage to write."""
        tensor = Tensor(shape, kind)
        tensor.depth = self.depth
        self.block.made.append(tensor)
        return tensor

    def add(self, stage: Stage) -> None:
        """Add a stage to the block."""
        self.block.stages.append(stage)

    # Maps -------------------------------------------------------------------------------------------------
    def map(
        self,
        shape: Sequence[int],
        kind: str,
        operands: Operands,
        emit: Emit,
        cost: int = 1,
        alias_of: Tensor | None = None,
    ) -> Map:
        """Make a tensor computed element by element."""
        tensor = Map(shape, kind, operands, emit, cost, alias_of)
        tensor.depth = self.depth
        self.block.made.append(tensor)
        return tensor

    def full(self, shape: Sequence[int], value: Number, kind: str) -> Map:
        """Make a constant tensor."""
        reg = const(value, kind)
        return self.map(shape, kind, (), lambda k, index: reg, 0)

    def pointwise(
        self,
        function: Callable[..., Reg],
        *operands: Tensor | Number,
        compute: str | None = None,
        kind: str | None = None,
        shape: Sequence[int] | None = None,
        cost: int = 1,
    ) -> Map:
        """Apply ``function(kernel, *elements)`` with broadcasting, in the kind ``compute``.

        By default that is the kind of the output, or the promotion of the operands where the output is bool.
        """
        kind = kind or self.out_kind()
        if compute is None:
            compute = kind if kind != "i1" else self.promote(*operands)
        if shape is None:
            shape = broadcast(*(op.shape for op in operands if isinstance(op, Tensor)))
        numbers = {
            place: const(op, compute) for place, op in enumerate(operands) if not isinstance(op, Tensor)
        }

        def apply(k: Kernel, *elements: Reg) -> Reg:
            rest = iter(elements)
            regs = [
                numbers[place] if place in numbers else k.convert(next(rest), compute)
                for place in range(len(operands))
            ]
            return k.convert(function(k, *regs), kind)

        return self.elementwise(apply, [op for op in operands if isinstance(op, Tensor)], kind, shape, cost)

    def elementwise(
        self,
        function: Callable[..., Reg],
        operands: Sequence[Tensor],
        kind: str,
        shape: Sequence[int],
        cost: int,
    ) -> Map:
        """Apply ``function(kernel, *elements)`` to elements as they are, with broadcasting."""
        shape = tuple(shape)
        # What is the same along a dimension is computed once, and repeated afterwards.
        sources = [unexpanded(each) for each in operands]
        joint = broadcast(*(each.shape for each in sources))
        if prod(joint) < prod(shape):
            return self.expand(self.elementwise(function, sources, kind, joint, cost), shape)

        def emit(k: Kernel, index: Index) -> Reg:
            return function(k, *(k.read(each, broadcast_index(each, index, shape)) for each in operands))

        return self.map(shape, kind, [(op, broadcast_level(op.shape, shape)) for op in operands], emit, cost)

    def promote(self, *operands: Tensor | Number) -> str:
        """Return the kind in which torch computes on these operands."""
        dtypes = [DTYPES[op.kind] if isinstance(op, Tensor) else type(op) for op in operands]
        ranks = [len(op.shape) > 0 if isinstance(op, Tensor) else False for op in operands]
        return self.kind(promoted(tuple(dtypes), tuple(ranks), torch.get_default_dtype()))

    def cast(self, tensor: Tensor, kind: str) -> Tensor:
        """Convert elements, if necessary."""
        if tensor.kind == kind:
            return tensor
        return self.elementwise(lambda k, x: k.convert(x, kind), [tensor], kind, tensor.shape, 1)

    def expand(self, tensor: Tensor, shape: Sequence[int]) -> Map:
        """Repeat elements along new dimensions and those of extent 1."""
        shape = tuple(shape)
        level = broadcast_level(tensor.shape, shape)
        result = self.map(
            shape,
            tensor.kind,
            [(tensor, level)],
            lambda k, index: k.read(tensor, broadcast_index(tensor, index, shape)),
            0,
        )
        result.expanded = unexpanded(tensor)
        return result

    def copy(self, tensor: Tensor) -> Map:
        """Make a tensor with the same elements and memory of its own."""
        return self.map(tensor.shape, tensor.kind, [(tensor, True)], lambda k, index: k.read(tensor, index))

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """Give the elements, in order, another shape."""
        if isinstance(tensor, Map) and tensor.alias_of is not None:
            tensor = tensor.alias_of
        shape, old = tuple(shape), tensor.shape
        if shape == old:
            return tensor
        same = squeeze(shape) == squeeze(old)

        def emit(k: Kernel, index: Index) -> Reg:
            if same:
                kept = iter([form for form, size in zip(index, shape, strict=True) if size != 1])
                return k.read(tensor, tuple(ZERO if size == 1 else next(kept) for size in old))

            return k.read(tensor, k.divisions.unravel(ravel(index, shape), old))

        return self.map(shape, tensor.kind, [(tensor, same)], emit, 0, alias_of=tensor)

    def view(
        self, tensor: Tensor, shape: Sequence[int], place: Callable[[Index], Index], level: int = ANYWHERE
    ) -> Map:
        """Select elements by an index map."""
        return self.map(
            shape, tensor.kind, [(tensor, level)], lambda k, index: k.read(tensor, place(index)), 0
        )

    # Values -----------------------------------------------------------------------------------------------
    def argument(self, item: Any) -> Any:
        """Replace the values in an argument by tensors."""
        if isinstance(item, Value):
            return self.values[item]
        if isinstance(item, (list, tuple)):
            return [self.argument(each) for each in item]
        return item

    def run(self, program: Program) -> None:
        """Lower all operations of a program whose inputs are already known."""
        for value, data in program.constants.items():
            if value not in self.values:
                self.values[value] = make_constant(self, data)
                self.constants.append(self.values[value])
        self.matrices.study(program)
        for node in program.nodes:
            self.node = node
            args = [self.argument(item) for item in node.args]
            kwargs = {name: self.argument(item) for name, item in node.kwargs.items()}
            home = home_of(self, node, [*args, *kwargs.values()])
            outer_node, home.node = home.node, node
            for value, tensor in zip(node.outputs, home.lower(args, kwargs), strict=False):
                if tensor is not None:
                    self.values[value] = tensor
            home.node = outer_node
        self.node = None

    def lower(self, args: list[Any], kwargs: dict[str, Any]) -> Iterator[Tensor | None]:
        """Lower the current operation; yield its outputs."""
        node = self.current
        function = OPERATIONS.get(node.op)
        if function is None:
            raise self.refuse("there is no lowering of this operation")
        for value in node.outputs:
            self.kind(value.dtype)
        try:
            result = function(self, *args, **kwargs)
        except TypeError as error:
            raise self.refuse(f"its arguments are not understood ({error})") from error
        for value, tensor in zip(
            node.outputs, [result] if isinstance(result, Tensor) else result, strict=False
        ):
            if tensor is not None and tensor.shape != tuple(value.shape):
                raise RuntimeError(f"{node.op}: lowered to shape {tensor.shape}, not {tuple(value.shape)}")
            yield None if tensor is None else self.cast(tensor, self.kind(value.dtype))

    @property
    def constants(self) -> list[Tensor]:
        """Constants of the whole program, this block's parents included."""
        return self._constants if self.parent is None else self.parent.constants
