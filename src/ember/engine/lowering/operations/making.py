"""Lower operations that make tensors from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import conditions
from .. import index as ix
from ..builder import Builder, Number, operation
from ..elements import Reg, const
from ..kernel import Kernel
from ..tensors import Index, Tensor
from .views import expand


# Making ---------------------------------------------------------------------------------------------------
def _register_fill(names: Sequence[str], value: Number | None) -> None:
    @operation(*names)
    def lower(b: Builder, *args: Any, **kwargs: Any) -> Tensor:
        filler = value if value is not None else kwargs.get("fill_value", args[1] if len(args) > 1 else 0)
        if isinstance(filler, Tensor):
            return expand(b, b.cast(b.reshape(filler, ()), b.out_kind()), b.out().shape)
        return b.full(b.out().shape, filler, b.out_kind())


_register_fill(
    ["aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default", "aten.zero.default"], 0
)


_register_fill(["aten.ones.default", "aten.ones_like.default", "aten.new_ones.default"], 1)
_register_fill(["aten.full.default", "aten.full_like.default", "aten.fill.Scalar", "aten.fill.Tensor"], None)
_register_fill(["aten.empty.memory_format", "aten.empty_like.default", "aten.new_empty.default"], 0)
_register_fill(["aten.empty_strided.default", "aten.new_empty_strided.default"], 0)
_register_fill(["aten.scalar_tensor.default"], None)


@operation("ember.workspace.default")
def _workspace(b: Builder, like: Tensor, size: Any) -> Tensor:
    tensor = b.full(b.out().shape, 0, b.out_kind())
    tensor.undefined = True
    return tensor


@operation("aten.new_full.default")
def _new_full(b: Builder, x: Tensor, size: Any, fill_value: Number, **kwargs: Any) -> Tensor:
    return b.full(b.out().shape, fill_value, b.out_kind())


@operation("aten.scalar_tensor.default")
def _scalar_tensor(b: Builder, value: Number, **kwargs: Any) -> Tensor:
    return b.full((), value, b.out_kind())


@operation("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def _arange(b: Builder, *args: Number, **kwargs: Any) -> Tensor:
    start, step = (0 if len(args) == 1 else args[0]), (args[2] if len(args) > 2 else 1)
    return _progression(b, start, step)


def _progression(b: Builder, start: Number, step: Number) -> Tensor:
    kind = b.out_kind()

    def emit(k: Kernel, index: Index) -> Reg:
        if kind == "i64":
            return k.index_value(index[0].scale(int(step)).shift(int(start)))
        count = k.convert(k.index_value(index[0]), kind)
        return k.add(k.mul(count, const(step, kind)), const(start, kind))

    return b.map(b.out().shape, kind, (), emit, 1)


@operation("aten.linspace.default")
def _linspace(b: Builder, start: Number, end: Number, steps: int, **kwargs: Any) -> Tensor:
    kind = b.out_kind()
    step = (end - start) / max(steps - 1, 1)

    def emit(k: Kernel, index: Index) -> Reg:
        count = k.convert(k.index_value(index[0]), kind)
        back = k.convert(k.index_value(index[0].scale(-1).shift(steps - 1)), kind)
        up = k.add(const(start, kind), k.mul(count, const(step, kind)))
        down = k.sub(const(end, kind), k.mul(back, const(step, kind)))
        return k.select(conditions.at_least(k, index[0], steps // 2), down, up)

    return b.map(b.out().shape, kind, (), emit, 4)


@operation("aten.eye.default", "aten.eye.m")
def _eye(b: Builder, *args: Any, **kwargs: Any) -> Tensor:
    kind = b.out_kind()

    def emit(k: Kernel, index: Index) -> Reg:
        inside = conditions.within(k, ix.add(index[0], index[1].scale(-1)), 0, 1)
        return k.select(inside, const(1, kind), const(0, kind))

    return b.map(b.out().shape, kind, (), emit, 2)
