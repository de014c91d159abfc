"""Lower padding by reflection and by repetition of the border."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..builder import Builder, operation
from ..elements import Reg, const
from ..index import Linear
from ..kernel import Kernel
from ..tensors import ANYWHERE, Index, Tensor


def _pad(b: Builder, x: Tensor, pad: Sequence[int], fold: Callable[[Kernel, Reg, int], Reg]) -> Tensor:
    rank = len(x.shape)
    before = {rank - 1 - position: pad[2 * position] for position in range(len(pad) // 2)}

    def emit(k: Kernel, index: Index) -> Reg:
        return k.read(x, tuple(place(k, axis, form) for axis, form in enumerate(index)))

    def place(k: Kernel, axis: int, form: Linear) -> Linear:
        if axis not in before:
            return form
        size = x.shape[axis]
        reg = fold(k, k.index_value(form.shift(-before[axis])), size)
        return k.opaque(reg, 0, size - 1)

    return b.map(b.out().shape, x.kind, [(x, ANYWHERE)], emit, 6)


def _clamp(k: Kernel, place: Reg, size: int) -> Reg:
    low, high = const(0, "i64"), const(size - 1, "i64")
    place = k.select(k.compare("lt", place, low), low, place)
    return k.select(k.compare("gt", place, high), high, place)


def _mirror(k: Kernel, place: Reg, size: int) -> Reg:
    place = k.select(k.compare("lt", place, const(0, "i64")), k.neg(place), place)
    folded = k.sub(const(2 * (size - 1), "i64"), place)
    return k.select(k.compare("ge", place, const(size, "i64")), folded, place)


@operation(
    "aten.replication_pad1d.default", "aten.replication_pad2d.default", "aten.replication_pad3d.default"
)
def _replicate(b: Builder, x: Tensor, padding: Sequence[int]) -> Tensor:
    return _pad(b, x, padding, _clamp)


@operation("aten.reflection_pad1d.default", "aten.reflection_pad2d.default", "aten.reflection_pad3d.default")
def _reflect(b: Builder, x: Tensor, padding: Sequence[int]) -> Tensor:
    return _pad(b, x, padding, _mirror)
