"""Define stages: what is executed at a point of the schedule, writing its outputs to memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .elements import Reg
from .tensors import Index, Map, Operands, Tensor, read_levels, squeeze

if TYPE_CHECKING:
    from .kernel import Kernel


class Stage:
    """Something executed at a point of the schedule, writing its outputs to memory.

    :ivar space: the extents it loops over (without extents 1), or None when it cannot share loops.
    :ivar operands: tensors read, each with where.
    """

    space: tuple[int, ...] | None = None

    def __init__(self, operands: Operands, outputs: Sequence[Tensor]) -> None:
        self.operands = read_levels(operands)
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
        self.replaces = False  # written where others in the nest may have to read first


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
