"""Emit cumulative operations."""

from __future__ import annotations

from collections.abc import Callable

from .elements import type_name
from .index import Linear
from .kernel import Kernel
from .loops import loop, loop_nest, scalar_nest
from .stages import Prefix
from .tensors import Index, spread, squeeze


def emit_prefix(k: Kernel, stage: Prefix) -> None:
    """Emit a cumulative operation: the axis in order, the dimensions inside it in lanes."""
    axis, shape = stage.axis, stage.shape
    outer, inner = shape[:axis], shape[axis + 1 :]
    extent = shape[axis]
    inner_space = squeeze(inner)

    def lanes_body(outer_index: Index) -> Callable[[list[Linear]], None]:
        def at(inner_variables: list[Linear]) -> None:
            inner_index = spread(inner_variables, inner)
            lanes = max((var.lanes for form in inner_variables for var, _ in form.terms), default=1)
            slots = [k.alloca(init.kind, lanes) for init in stage.init]
            for slot, init in zip(slots, stage.init, strict=True):
                k.line(f"store {type_name(init.kind, lanes)} {k.splat(init, lanes).text}, ptr {slot}")

            def step(counter: Linear) -> None:
                along = counter.scale(-1).shift(extent - 1) if stage.reverse else counter
                index = (*outer_index, along, *inner_index)
                old = [
                    k.fresh(f"load {type_name(init.kind, lanes)}, ptr {slot}", init.kind, lanes)
                    for slot, init in zip(slots, stage.init, strict=True)
                ]
                values = [k.splat(value, lanes) for value in stage.value(k, index)]
                new = stage.combine(k, old, values)
                for slot, reg in zip(slots, new, strict=True):
                    k.line(f"store {type_name(reg.kind, lanes)} {k.splat(reg, lanes).text}, ptr {slot}")
                for tensor, reg in zip(stage.outputs, stage.finish(k, new), strict=True):
                    k.write(tensor, index, reg)

            loop(k, extent, 1, step)

        return at

    def outer_body(variables: list[Linear]) -> None:
        loop_nest(k, inner_space, lanes_body(spread(variables, outer)))

    scalar_nest(k, squeeze(outer), outer_body)
