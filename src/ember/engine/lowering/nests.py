"""Emit the loop nest of a group of stages that share an iteration space, with their accumulators."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .elements import Reg, type_name
from .index import Linear
from .kernel import Kernel, NeedsNested
from .loops import UNROLLED_CHUNKS, counted, loop, loop_rows, pointwise_loop
from .narrow import NarrowNest, horizontal, is_narrow, map_element, write_postponed
from .prefetching import prefetch_rows
from .scattering import copy_base, load_now, scatter_element
from .stages import MapStage, Reduce, Scatter, Stage
from .tensors import Index, Tensor, spread
from .tiles import Tile, tile_height


def _prepare(k: Kernel, members: Sequence[Stage]) -> None:
    for stage in members:
        if isinstance(stage, Scatter):
            copy_base(k, stage)
        elif isinstance(stage, Reduce) and not _in_registers(stage):
            _fill_identity(k, stage)


def emit_chain(
    k: Kernel, parts: Sequence[Sequence[Stage]], num_rows: int, block_rows: int, large: Sequence[Tensor]
) -> None:
    """Emit several nests over the same rows, which take turns on blocks of these.

    :param large: tensors of as many rows that do not fit the nearest cache. A nest that computes on single
        numbers per row asks for the next block's rows of these, so that memory works while it does.
    """
    for members in parts:
        _prepare(k, members)
    nests = [_Nest(k, members, members[0].space or ()) for members in parts]
    for nest in nests:
        nest.open_level(0)

    def block(start: Linear) -> None:
        for nest in nests:
            k.members = set(nest.members)
            nest.rows(start, block_rows, num_rows, large if len(nest.space) == 1 else ())
        k.members = set()

    counted(k, 0, num_rows, block_rows, 1, block, num_rows)
    for nest in nests:
        nest.close_level(0, [])


def emit_group(k: Kernel, members: Sequence[Stage]) -> None:
    """Emit all members of a group in one loop nest."""
    space = members[0].space or ()
    k.members = set(members)
    try:
        _prepare(k, members)
        alike = all(stage.space == space and _flattens(stage) for stage in members)
        if len(space) > 1 and alike and _try_flat(k, members, space):
            return
        if is_narrow(k, members, space):
            NarrowNest(k, members, space[0]).run()
        else:
            _Nest(k, members, space).run()
    finally:
        k.members = set()


def _flattens(stage: Stage) -> bool:
    return isinstance(stage, (MapStage, Scatter)) or (isinstance(stage, Reduce) and all(stage.reduced))


def _try_flat(k: Kernel, members: Sequence[Stage], space: tuple[int, ...]) -> bool:
    state = k.snapshot()
    try:
        _Nest(k, members, (math.prod(space),), space).run()
    except NeedsNested:
        k.restore(state)
        return False
    return True


def _in_registers(stage: Reduce) -> bool:
    """Say whether all reduced dimensions are inside all kept ones."""
    reduced = stage.reduced
    return True not in reduced or all(reduced[reduced.index(True) :])


def _fill_identity(k: Kernel, stage: Reduce) -> None:
    for output, init in zip(stage.outputs, stage.init, strict=True):
        with k.scope():
            flat = Tensor((output.numel,), output.kind)
            flat.home = output
            pointwise_loop(k, flat.shape, lambda index, t=flat, v=init: k.write(t, index, v))  # type: ignore[misc]


class _Nest:
    """One loop nest with the accumulators of its reductions."""

    def __init__(
        self,
        k: Kernel,
        members: Sequence[Stage],
        space: tuple[int, ...],
        original: tuple[int, ...] | None = None,
    ) -> None:
        self.k = k
        self.members = members
        self.space = space
        self.original = original
        self.opened: dict[int, list[Reduce]] = {}
        for stage in members:
            if isinstance(stage, Reduce) and _accumulates(stage, original):
                self.opened.setdefault(self.first_level(stage), []).append(stage)
        self.height = tile_height(k, members, space)
        self.tile = Tile(k, members, space[-1] if space else 0, self.height, self.accumulate_values)

    def first_level(self, stage: Reduce) -> int:
        """Return the loop level around which the stage's registers live."""
        if self.original is not None:
            return 0
        reduced = stage.reduced
        level = len(reduced)
        while level and reduced[level - 1]:
            level -= 1
        return level

    def run(self) -> None:
        self.level(0, [])

    def open_level(self, depth: int) -> None:
        for stage in self.opened.get(depth, []):
            self.open(stage, depth)

    def close_level(self, depth: int, variables: list[Linear]) -> None:
        for stage in self.opened.get(depth, []):
            self.close(stage, variables)

    def rows(self, start: Linear, block_rows: int, num_rows: int, ahead: Sequence[Tensor]) -> None:
        """Run the loops inside the first one for a block of rows, and fetch the next block's of ``ahead``."""
        lanes = self.k.lanes if len(self.space) == 1 else 1

        def body(row: Linear) -> None:
            for tensor in ahead:
                prefetch_rows(self.k, tensor, row.shift(block_rows), lanes)
            self.level(1, [row])

        loop_rows(
            self.k,
            start,
            block_rows,
            num_rows,
            lanes,
            body,
            self.height if len(self.space) == 2 else 0,
            self.tile.run,
        )

    def level(self, depth: int, variables: list[Linear]) -> None:
        self.open_level(depth)
        if depth == len(self.space):
            self.body(variables)
        else:
            innermost = depth == len(self.space) - 1
            inner = math.prod(-(-e // self.k.lanes) for e in self.space[depth + 1 :])

            def step(variable: Linear) -> None:
                if self.original is not None:
                    self.k.flat = variable.terms[0][0]
                self.level(depth + 1, [*variables, variable])
                self.k.flat = None

            start = 0
            if depth == len(self.space) - 2 and self.height:
                extent = self.space[depth]
                start = extent - extent % self.height
                counted(self.k, 0, start, self.height, 1, lambda row: self.tile.run(row, variables), extent)
            if start < self.space[depth]:
                loop(
                    self.k,
                    self.space[depth],
                    self.k.lanes if innermost else 1,
                    step,
                    unroll=not innermost and inner <= UNROLLED_CHUNKS // 2,
                    start=start,
                )
        self.close_level(depth, variables)

    def place(self, variables: list[Linear], shape: Sequence[int]) -> Index:
        if self.original is not None:
            variables = list(self.k.divisions.unravel(variables[0], self.original))
        return spread(variables, shape)

    def body(self, variables: list[Linear]) -> None:
        k = self.k
        for stage in self.members:
            if isinstance(stage, MapStage):
                map_element(k, stage, self.place(variables, stage.tensor.shape))
            elif isinstance(stage, Reduce):
                self.accumulate(stage, variables)
            elif isinstance(stage, Scatter):
                scatter_element(k, stage, self.place(variables, stage.shape))
        write_postponed(k)

    # Accumulators -----------------------------------------------------------------------------------------
    def widths(self, depth: int) -> list[int]:
        if depth == len(self.space) or self.space[-1] == 0:
            return [1]
        lanes, extent = self.k.lanes, self.space[-1]
        if lanes == 1:
            return [1]
        if self.k.masked_tails or extent % lanes == 0:
            return [lanes]
        return [lanes, 1] if extent > lanes else [1]

    def open(self, stage: Reduce, depth: int) -> None:
        k = self.k
        for lanes in self.widths(depth):
            key = (stage, lanes)
            if key not in k.accumulators:
                k.accumulators[key] = [k.alloca(init.kind, lanes) for init in stage.init]
            for slot, init in zip(k.accumulators[key], stage.init, strict=True):
                k.line(f"store {type_name(init.kind, lanes)} {k.splat(init, lanes).text}, ptr {slot}")

    def accumulate(self, stage: Reduce, variables: list[Linear]) -> None:
        k = self.k
        self.accumulate_values(stage, variables, stage.value(k, self.place(variables, stage.shape)))

    def accumulate_values(self, stage: Reduce, variables: list[Linear], values: list[Reg]) -> None:
        k = self.k
        lanes = max((var.lanes for form in variables for var, _ in form.terms), default=1)
        if (stage, lanes) not in k.accumulators:
            self.combine_memory(stage, variables, values)
            return
        slots = k.accumulators[stage, lanes]
        old = [
            k.fresh(f"load {type_name(init.kind, lanes)}, ptr {slot}", init.kind, lanes)
            for slot, init in zip(slots, stage.init, strict=True)
        ]
        new = stage.combine(k, old, [k.splat(value, lanes) for value in values])
        for slot, before, after in zip(slots, old, new, strict=True):
            kept = after if k.mask is None or lanes == 1 else k.select(k.mask, after, before)
            kept = k.splat(kept, lanes)
            k.line(f"store {type_name(kept.kind, lanes)} {kept.text}, ptr {slot}")

    def close(self, stage: Reduce, variables: list[Linear]) -> None:
        k = self.k
        total: list[Reg] | None = None
        for lanes in (k.lanes, 1) if k.lanes > 1 else (1,):
            slots = k.accumulators.pop((stage, lanes), None)
            if slots is None:
                continue
            parts = [
                k.fresh(f"load {type_name(init.kind, lanes)}, ptr {slot}", init.kind, lanes)
                for slot, init in zip(slots, stage.init, strict=True)
            ]
            parts = horizontal(k, stage, parts)
            total = parts if total is None else stage.combine(k, total, parts)
        if total is None:
            return
        if _in_registers(stage) or self.original is not None:
            outputs = stage.finish(k, total)
            kept = [v for v, reduced in zip(variables, stage.reduced, strict=False) if not reduced]
            for tensor, reg in zip(stage.outputs, outputs, strict=True):
                self.finish_element(tensor, kept, reg)
        else:
            self.combine_memory(stage, variables, total)

    def finish_element(self, tensor: Tensor, kept: list[Linear], value: Reg) -> None:
        k = self.k
        index = spread(kept, tensor.shape)
        mask, k.mask = k.mask, None
        k.write(tensor, index, value)
        if not kept:
            # A scalar result stays in its register for what follows in the same scope.
            zero = (tensor, tuple(form.key for form in index), None, None)
            k.remember(zero, value)
        k.mask = mask

    def combine_memory(self, stage: Reduce, variables: list[Linear], values: list[Reg]) -> None:
        k = self.k
        kept = [v for v, reduced in zip(variables, stage.reduced, strict=False) if not reduced]
        lanes = max((var.lanes for form in kept for var, _ in form.terms), default=1)
        places = [spread(kept, tensor.shape) for tensor in stage.outputs]
        old = [load_now(k, tensor, index) for tensor, index in zip(stage.outputs, places, strict=True)]
        new = stage.combine(k, [k.splat(reg, lanes) for reg in old], [k.splat(v, lanes) for v in values])
        for tensor, index, reg in zip(stage.outputs, places, new, strict=True):
            k.write(tensor, index, reg)


def _accumulates(stage: Reduce, original: tuple[int, ...] | None) -> bool:
    return original is not None or not stage.reduced or stage.reduced[-1]
