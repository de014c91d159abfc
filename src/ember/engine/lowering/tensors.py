"""Define what operations become: tensors computed element by element, and the shapes of index spaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .elements import BYTES, Reg
from .index import ZERO, Linear

if TYPE_CHECKING:
    from .kernel import Kernel
    from .stages import Stage

Index = tuple[Linear, ...]
# How a tensor is read from an iteration space: at the place of the iteration itself, at places with the same
# first coordinate, or anywhere.
ANYWHERE, SAME_ROW, SAME_PLACE = 0, 1, 2
Operands = Sequence["tuple[Tensor, bool | int]"]
Emit = Callable[["Kernel", Index], Reg]


class Tensor:
    """A value of the program: an array of elements of one kind.

    :ivar stage: what computes it into memory; None for inputs, constants and values inlined into consumers.
    :ivar storage: its memory: ``("arena", offset)``, ``("table", slot)`` or ``("global", name)``.
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

    __slots__ = (
        "alias_of",
        "cost",
        "emit",
        "expanded",
        "height",
        "operands",
        "repeat",
        "total",
        "transposed",
        "undefined",
    )

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
        self.operands = read_levels(operands)
        self.emit = emit
        self.cost = cost
        self.total = cost
        self.transposed: Tensor | None = None  # for a transpose of the last two dimensions, what it is of
        self.expanded: Tensor | None = None  # the smaller tensor whose elements this one repeats
        self.height = 0  # of the tree of expressions inlined into this one
        self.repeat = 1  # operands' elements read per element of this one
        self.alias_of = alias_of
        self.undefined = False  # its elements do not matter, so that nobody needs to copy them


def read_levels(operands: Operands) -> tuple[tuple[Tensor, int], ...]:
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


def unexpanded(tensor: Tensor) -> Tensor:
    """Return the tensor whose elements this one repeats along dimensions, or itself."""
    return tensor.expanded if isinstance(tensor, Map) and tensor.expanded is not None else tensor


def squeeze(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape without its extents 1."""
    return tuple(size for size in shape if size != 1)


def spread(variables: Sequence[Linear], shape: Sequence[int]) -> Index:
    """Return the index into ``shape`` of a place in the squeezed space."""
    rest = iter(variables)
    return tuple(ZERO if size == 1 else next(rest) for size in shape)


def memory_of(tensor: Tensor) -> Tensor:
    """Return the tensor whose memory holds the elements, through updates in place and reshapes."""
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
