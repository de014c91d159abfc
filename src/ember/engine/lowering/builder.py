"""Translate a program into blocks of tensors and stages, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import torch

from ember.engine.program import Node, Program, Value

from .elements import DTYPES, KINDS, Reg, const, is_float
from .errors import NotLowerable
from .index import ZERO
from .kernel import Kernel
from .schedule import Block, chain_start
from .tensors import (
    ANYWHERE,
    Emit,
    Index,
    Map,
    Operands,
    Stage,
    Tensor,
    broadcast,
    broadcast_level,
    memory_of,
    squeeze,
)

Operation = Callable[..., Any]
OPERATIONS: dict[str, Operation] = {}
Number = int | float | bool


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
        self.depth = 0 if parent is None else parent.depth + 1
        self.values: dict[Value, Tensor] = {}
        self.node: Node | None = None
        self._constants: list[Tensor] = []

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
        shape = tuple(shape)

        def emit(k: Kernel, index: Index) -> Reg:
            regs = [
                k.convert(k.read(op, broadcast_index(op, index, shape)), compute)
                if isinstance(op, Tensor)
                else const(op, compute)
                for op in operands
            ]
            return k.convert(function(k, *regs), kind)

        pairs = [(op, broadcast_level(op.shape, shape)) for op in operands if isinstance(op, Tensor)]
        return self.map(shape, kind, pairs, emit, cost)

    def promote(self, *operands: Tensor | Number) -> str:
        """Return the kind in which torch computes on these operands."""
        dtypes = [DTYPES[op.kind] if isinstance(op, Tensor) else type(op) for op in operands]
        ranks = [len(op.shape) > 0 if isinstance(op, Tensor) else False for op in operands]
        return self.kind(_promote(tuple(dtypes), tuple(ranks), torch.get_default_dtype()))

    def cast(self, tensor: Tensor, kind: str) -> Tensor:
        """Convert elements, if necessary."""
        if tensor.kind == kind:
            return tensor
        return self.map(
            tensor.shape, kind, [(tensor, True)], lambda k, index: k.convert(k.read(tensor, index), kind)
        )

    def copy(self, tensor: Tensor) -> Map:
        """Make a tensor with the same elements and memory of its own."""
        return self.map(tensor.shape, tensor.kind, [(tensor, True)], lambda k, index: k.read(tensor, index))

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """Give the elements, in order, another shape."""
        shape, old = tuple(shape), tensor.shape
        if shape == old:
            return tensor
        same = squeeze(shape) == squeeze(old)

        def emit(k: Kernel, index: Index) -> Reg:
            if same:
                kept = iter([form for form, size in zip(index, shape, strict=True) if size != 1])
                return k.read(tensor, tuple(ZERO if size == 1 else next(kept) for size in old))
            from .index import ravel

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

    def constant(self, data: torch.Tensor) -> Tensor:
        """Make a tensor of known elements."""
        kind = self.kind(data.dtype)
        array = data.detach().contiguous().numpy()
        if array.size and array.size <= 4096 and (array.reshape(-1)[0] == array).all():
            value = array.reshape(-1)[0].item()
            if value != 0 or not str(value).startswith("-"):
                return self.full(data.shape, value, kind)
        if array.size == 1:
            return self.full(data.shape, array.reshape(-1)[0].item(), kind)
        tensor = Tensor(data.shape, kind)
        tensor.constant = array
        return tensor

    def run(self, program: Program) -> None:
        """Lower all operations of a program whose inputs are already known."""
        for value, data in program.constants.items():
            if value not in self.values:
                self.values[value] = self.constant(data)
                self.constants.append(self.values[value])
        for node in program.nodes:
            self.node = node
            args = [self.argument(item) for item in node.args]
            kwargs = {name: self.argument(item) for name, item in node.kwargs.items()}
            home = self._outside(node, args, kwargs)
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
        for value, tensor in zip(node.outputs, [result] if isinstance(result, Tensor) else result, strict=False):
            if tensor is not None and tensor.shape != tuple(value.shape):
                raise RuntimeError(f"{node.op}: lowered to shape {tensor.shape}, not {tuple(value.shape)}")
            yield None if tensor is None else self.cast(tensor, self.kind(value.dtype))

    def _outside(self, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Builder:
        """Return the outermost builder in which an operation can be computed once for all repetitions."""
        if not self.repeats or node.regions or node.op.split(".")[1] in _CHECKED:
            return self
        operands = list(_tensors_in([*args, *kwargs.values()]))
        deepest = max((tensor.depth for tensor in operands), default=0)
        if sum(prod(value.shape) for value in node.outputs) > max(
            _HOISTED, 2 * sum(tensor.numel for tensor in operands)
        ):
            return self
        builder = self
        while builder.repeats and builder.parent is not None and builder.depth > deepest:
            builder = builder.parent
        return builder

    @property
    def constants(self) -> list[Tensor]:
        """Constants of the whole program, this block's parents included."""
        return self._constants if self.parent is None else self.parent.constants

    def outside(self) -> list[Tensor]:
        """Return the tensors made outside that the block reads or returns."""
        read = list(self.block.outputs)
        for tensor in self.block.made:
            if isinstance(tensor, Map):
                read.extend(operand for operand, _ in tensor.operands)
        for stage in self.block.stages:
            read.extend(operand for operand, _ in stage.operands)
        return [tensor for tensor in dict.fromkeys(read) if tensor.depth < self.depth]

    def results(self, values: Sequence[Value], homes: Sequence[Tensor | None]) -> list[Tensor]:
        """Return the block's outputs, copied where they would share a carry's memory with another place.

        :param homes: for each output the tensor, given from outside, in whose memory it will be.
        """
        carries = {memory_of(home) for home in homes if home is not None}
        out = []
        for value, home in zip(values, homes, strict=True):
            tensor = self.values[value]
            if tensor is home:
                out.append(tensor)
                continue
            start, steps = chain_start(tensor)
            if home is not None and start is home and steps:
                self.block.donated.add(home)
                self.block.chained.update(steps)
            out.append(self.copy(tensor) if memory_of(tensor) in carries else tensor)
        return out


# Operations that check indices stay where they are: if a loop makes no step, its indices need not be valid.
_CHECKED = frozenset(
    ["index", "index_select", "gather", "take", "embedding", "index_put", "index_add", "index_copy", "index_fill", "index_reduce", "put", "scatter", "scatter_add", "scatter_reduce", "embedding_dense_backward", "take_along_dim", "_unsafe_index"]
)
_HOISTED = 1 << 16  # elements of a result that may always be kept for all repetitions


def _tensors_in(items: Sequence[Any]) -> Iterator[Tensor]:
    for item in items:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _tensors_in(item)


def broadcast_index(tensor: Tensor, index: Index, shape: Sequence[int]) -> Index:
    """Return the index into an operand that is broadcast to ``shape``."""
    rank = len(tensor.shape)
    if rank == 0:
        return ()
    if tensor.shape == tuple(shape):
        return index
    return tuple(
        ZERO if size == 1 else form
        for form, size in zip(index[len(index) - rank :], tensor.shape, strict=True)
    )


@lru_cache(maxsize=4096)
def _promote(dtypes: tuple[Any, ...], ranked: tuple[bool, ...], default: torch.dtype) -> torch.dtype:
    """Apply torch's rules: tensors with dimensions before scalar tensors before numbers, within categories."""
    result: Any = None
    dummies = []
    for dtype, has_dimensions in zip(dtypes, ranked, strict=True):
        if isinstance(dtype, torch.dtype):
            dummies.append(torch.empty((0,) if has_dimensions else (), dtype=dtype))
        else:
            dummies.append(dtype(1))
    result = dummies[0]
    if len(dummies) == 1:
        return result.dtype if isinstance(result, torch.Tensor) else default
    for other in dummies[1:]:
        dtype = torch.result_type(result, other)
        dims = any(isinstance(each, torch.Tensor) and each.dim() for each in (result, other))
        result = torch.empty((0,) if dims else (), dtype=dtype)
    return result.dtype


__all__ = ["OPERATIONS", "Builder", "broadcast_index", "is_float", "operation"]
