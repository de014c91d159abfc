"""Define what ATen operations become: tensors computed element by element, and stages that run loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .elements import BYTES, Reg
from .index import ZERO, Linear

if TYPE_CHECKING:
    from .kernel import Kernel

Index = tuple[Linear, ...]

# How a tensor is read from an iteration space: at the place of the iteration itself, at places with the same
# first coordinate, or anywhere.
ANYWHERE, SAME_ROW, SAME_PLACE = 0, 1, 2
Operands = Sequence["tuple[Tensor, bool | int]"]
Emit = Callable[["Kernel", Index], Reg]


class Tensor:
    """A value of the program: an array of elements of one kind.

    :ivar stage: what computes it into memory; None for inputs, constants and values inlined into consumers.
    :ivar storage: where it lives in memory: ``("arena", offset)``, ``("table", slot)`` or ``("global", name)``.
    :ivar home: the tensor whose memory this one shares, when it is an update in place.
    """

    __slots__ = ("constant", "depth", "home", "kind", "shape", "stage", "storage")

    def __init__(self, shape: Sequence[int], kind: str) -> None:
        self.shape = tuple(shape)
        self.kind = kind
        self.stage: Stage | None = None
        self.storage: tuple[str, Any] | None = None
        self.home: Tensor | None = None
        self.depth = 0  # number of regions around the block that makes it
        self.constant: Any = None  # numpy array of a small constant, for loads at known positions

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Size in memory."""
        return self.numel * BYTES[self.kind]


class Map(Tensor):
    """A tensor each of whose elements is an expression of elements of others.

    :ivar operands: the tensors read, each with where: SAME_PLACE (or True), SAME_ROW or ANYWHERE (or False).
    :ivar emit: (kernel, index) → element.
    :ivar cost: rough number of instructions per element, operands not counted.
    :ivar alias_of: for a reshape, the tensor with the same elements in the same order.
    """

    __slots__ = ("alias_of", "cost", "emit", "operands", "repeat", "total", "transposed")

    def __init__(
        self,
        shape: Sequence[int],
        kind: str,
        operands: Operands,
        emit: Emit,
        cost: int = 1,
        alias_of: Tensor | None = None,
    ) -> None:
        super().__init__(shape, kind)
        self.operands = _levels(operands)
        self.emit = emit
        self.cost = cost
        self.total = cost
        self.transposed: Tensor | None = None  # for a transpose of the last two dimensions, what it is of
        self.repeat = 1  # operands' elements read per element of this one
        self.alias_of = alias_of


class Stage:
    """Something executed at a point of the schedule, writing its outputs to memory.

    :ivar space: the extents it loops over (without extents 1), or None when it cannot share loops.
    :ivar operands: tensors read, each with where.
    """

    space: tuple[int, ...] | None = None

    def __init__(self, operands: Operands, outputs: Sequence[Tensor]) -> None:
        self.operands = _levels(operands)
        self.outputs = tuple(outputs)
        self.leaves: dict[Tensor, int] = {}
        self.group: Any = None
        self.weight = 1
        for output in self.outputs:
            output.stage = self

    def buffers(self) -> tuple[Tensor, ...]:
        """Return operands that must be in memory rather than inlined."""
        return ()

    def updates(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return pairs (operand, output) that may share memory if the operand is not read afterwards."""
        return ()

    def plan_inside(self) -> None:
        """Plan the blocks inside, when the block around has been planned."""


class MapStage(Stage):
    """Write the elements of a :class:`Map` to memory."""

    def __init__(self, tensor: Map) -> None:
        super().__init__(tensor.operands, (tensor,))
        self.tensor = tensor
        self.space = squeeze(tensor.shape)
        self.virtual = False


class Reduce(Stage):
    """Combine elements over some axes of an iteration space.

    :param shape: the space, extents 1 included; ``axes`` of it are reduced, the others remain in the outputs.
    :param value: (kernel, index) → one register per accumulator.
    :param init: one constant per accumulator.
    :param combine: (kernel, accumulators, values) → accumulators; associative and commutative.
    :param finish: (kernel, accumulators) → one register per output.
    """

    def __init__(
        self,
        operands: Operands,
        outputs: Sequence[Tensor],
        shape: Sequence[int],
        axes: Sequence[int],
        value: Callable[[Kernel, Index], list[Reg]],
        init: Sequence[Reg],
        combine: Callable[[Kernel, list[Reg], list[Reg]], list[Reg]],
        finish: Callable[[Kernel, list[Reg]], list[Reg]] | None = None,
        cost: int = 1,
    ) -> None:
        super().__init__(operands, outputs)
        self.shape = tuple(shape)
        self.axes = frozenset(axes)
        self.value = value
        self.init = list(init)
        self.combine = combine
        self.finish = finish or (lambda k, accumulators: accumulators)
        self.space = squeeze(shape)
        self.weight = cost
        kept_axes = [axis not in self.axes for axis, size in enumerate(self.shape) if size != 1]
        self.reduced = tuple(not kept for kept in kept_axes)  # per dimension of the space
        self.simple = (
            all(a.kind == o.kind for a, o in zip(self.init, self.outputs, strict=True)) and finish is None
        )


class Scatter(Stage):
    """Write, or combine, elements at computed places of a copy of ``base``.

    :param place: (kernel, index) → (destination index, value, whether it is written or None for always).
    :param combine: (kernel, old, new) → element, or None to overwrite.
    """

    def __init__(
        self,
        base: Tensor,
        output: Tensor,
        shape: Sequence[int],
        operands: Operands,
        place: Callable[[Kernel, Index], tuple[Index, Reg, Reg | None]],
        combine: Callable[[Kernel, Reg, Reg], Reg] | None = None,
        cost: int = 4,
    ) -> None:
        super().__init__([*operands, (base, False)], (output,))
        self.base = base
        self.shape = tuple(shape)
        self.place = place
        self.combine = combine
        self.space = squeeze(shape)
        self.weight = cost

    def updates(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return the base with the output."""
        return ((self.base, self.outputs[0]),)


class Prefix(Stage):
    """Combine elements along one axis cumulatively, keeping every step (cumsum and its kin)."""

    def __init__(
        self,
        operands: Operands,
        outputs: Sequence[Tensor],
        shape: Sequence[int],
        axis: int,
        value: Callable[[Kernel, Index], list[Reg]],
        init: Sequence[Reg],
        combine: Callable[[Kernel, list[Reg], list[Reg]], list[Reg]],
        finish: Callable[[Kernel, list[Reg]], list[Reg]] | None = None,
        reverse: bool = False,
    ) -> None:
        super().__init__([(tensor, False) for tensor, _ in operands], outputs)
        self.shape = tuple(shape)
        self.axis = axis
        self.value = value
        self.init = list(init)
        self.combine = combine
        self.finish = finish or (lambda k, accumulators: accumulators)
        self.reverse = reverse
        self.weight = 20


class Extern(Stage):
    """Run code that reads and writes whole buffers, such as a LAPACK routine.

    :param reads: tensors read element by element, with loops of its own.
    :param whole: tensors whose memory is handed over.
    :param run: (kernel) → None; gets addresses by ``kernel.pointer(tensor)``.
    """

    def __init__(
        self,
        reads: Sequence[Tensor],
        whole: Sequence[Tensor],
        outputs: Sequence[Tensor],
        run: Callable[[Kernel], None],
        weight: int = 100,
    ) -> None:
        super().__init__([(tensor, False) for tensor in (*reads, *whole)], outputs)
        self.whole = tuple(whole)
        self.run = run
        self.weight = weight

    def buffers(self) -> tuple[Tensor, ...]:
        """Return the tensors handed over."""
        return self.whole


def _levels(operands: Operands) -> tuple[tuple[Tensor, int], ...]:
    return tuple(
        (tensor, (SAME_PLACE if level else ANYWHERE) if isinstance(level, bool) else level)
        for tensor, level in operands
    )


def broadcast_level(shape: Sequence[int], joint: Sequence[int]) -> int:
    """Say where an operand of ``shape`` is read when it is broadcast to ``joint``."""
    if squeeze(shape) == squeeze(joint):
        return SAME_PLACE
    lead = len(joint) - len(shape)
    for axis, size in enumerate(joint):
        if size != 1:
            return SAME_ROW if axis >= lead and shape[axis - lead] == size else ANYWHERE
    return ANYWHERE


def squeeze(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape without its extents 1."""
    return tuple(size for size in shape if size != 1)


def spread(variables: Sequence[Linear], shape: Sequence[int]) -> Index:
    """Return the index into ``shape`` of a place in the squeezed space."""
    rest = iter(variables)
    return tuple(ZERO if size == 1 else next(rest) for size in shape)


def memory_of(tensor: Tensor) -> Tensor:
    """Return the tensor whose memory holds the elements of ``tensor``, through updates in place and reshapes."""
    while True:
        if tensor.home is not None:
            tensor = tensor.home
        elif isinstance(tensor, Map) and tensor.stage is None and tensor.alias_of is not None:
            tensor = tensor.alias_of
        else:
            return tensor


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """Return the joint shape; ``torch.broadcast_shapes`` would import a second's worth of modules."""
    joint: list[int] = []
    for shape in shapes:
        joint = [1] * (len(shape) - len(joint)) + joint
        start = len(joint) - len(shape)
        for position, size in enumerate(shape, start):
            if joint[position] == 1:
                joint[position] = size
    return tuple(joint)
