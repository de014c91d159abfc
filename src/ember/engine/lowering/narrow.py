"""Emit nests over many rows of few columns: the rows in lanes, the columns written out."""

from __future__ import annotations

from collections.abc import Sequence

from .elements import Reg, type_name
from .index import Linear
from .kernel import Kernel
from .loops import loop
from .scattering import load_now, scatter_element
from .stages import MapStage, Reduce, Scatter, Stage
from .tensors import Index, spread

MOST_INSTRUCTIONS = 4000  # of the columns written out
MOST_COLUMNS = 4  # of a tensor whose rows may share a nest with single columns
FEWEST_ROWS = 32

Slots = dict[int, list[str]]  # number of lanes → stack cells of the accumulators


def row_space(space: tuple[int, ...]) -> tuple[int, ...]:
    """Return the space of the rows alone, if there are many of few columns."""
    if len(space) == 2 and 0 < space[1] <= MOST_COLUMNS and space[0] >= FEWEST_ROWS:
        return space[:1]
    return space


def columns_of(space: tuple[int, ...]) -> int:
    """Return how many columns are written out if the rows are in lanes."""
    return space[1] if row_space(space) != space else 1


def is_narrow(k: Kernel, members: Sequence[Stage], space: tuple[int, ...]) -> bool:
    """Say whether lanes along the rows are better than along the columns, or necessary."""
    if any(stage.space != space for stage in members):
        return True
    if len(space) != 2 or space[1] == 0 or space[1] > k.lanes // 2 or space[0] < 2 * k.lanes:
        return False
    weight = sum(stage.weight for stage in members) * space[1]
    return weight <= MOST_INSTRUCTIONS and all(
        isinstance(stage, (MapStage, Reduce, Scatter)) for stage in members
    )


class NarrowNest:
    """One nest over rows and a few columns."""

    def __init__(self, k: Kernel, members: Sequence[Stage], num_rows: int) -> None:
        self.k = k
        self.members = members
        self.num_rows = num_rows
        self.slots: dict[tuple[Reduce, int], Slots] = {}

    def run(self) -> None:
        """Emit the nest."""
        down = [stage for stage in self.members if isinstance(stage, Reduce) and stage.reduced[0]]
        for stage in down:
            for column in range(1 if all(stage.reduced) else _num_columns(stage)):
                self.slots[stage, column] = self._open(stage)
        loop(self.k, self.num_rows, self.k.lanes, self._row)
        for stage, column in self.slots:
            self._close(stage, column)

    def _widths(self) -> list[int]:
        lanes = self.k.lanes
        return [lanes] if self.k.masked_tails or self.num_rows % lanes == 0 else [lanes, 1]

    def _open(self, stage: Reduce) -> Slots:
        k = self.k
        slots: Slots = {}
        for lanes in self._widths():
            slots[lanes] = [k.alloca(init.kind, lanes) for init in stage.init]
            for cell, init in zip(slots[lanes], stage.init, strict=True):
                k.line(f"store {type_name(init.kind, lanes)} {k.splat(init, lanes).text}, ptr {cell}")
        return slots

    def _row(self, row: Linear) -> None:
        k = self.k
        lanes = max(var.lanes for var, _ in row.terms)
        for stage in self.members:
            single = stage.space is not None and len(stage.space) == 1
            places = [[row]] if single else [[row, Linear(column)] for column in range(_num_columns(stage))]
            if isinstance(stage, MapStage):
                for place in places:
                    map_element(k, stage, spread(place, stage.tensor.shape))
            elif isinstance(stage, Scatter):
                for place in places:
                    scatter_element(k, stage, spread(place, stage.shape))
            elif isinstance(stage, Reduce):
                values = [stage.value(k, spread(place, stage.shape)) for place in places]
                if not stage.reduced[-1]:
                    for column, each in enumerate(values):
                        self._accumulate(stage, column, lanes, each)
                    continue
                total = values[0]
                for each in values[1:]:
                    total = stage.combine(k, total, each)
                if stage.reduced[0]:
                    self._accumulate(stage, 0, lanes, total)
                else:
                    for tensor, reg in zip(stage.outputs, stage.finish(k, total), strict=True):
                        k.write(tensor, spread([row], tensor.shape), reg)
        write_postponed(k)

    def _accumulate(self, stage: Reduce, column: int, lanes: int, values: list[Reg]) -> None:
        k = self.k
        cells = self.slots[stage, column][lanes]
        old = self._load(stage, cells, lanes)
        new = stage.combine(k, old, [k.splat(value, lanes) for value in values])
        for cell, before, after in zip(cells, old, new, strict=True):
            kept = after if k.mask is None or lanes == 1 else k.select(k.mask, after, before)
            k.line(f"store {type_name(kept.kind, lanes)} {k.splat(kept, lanes).text}, ptr {cell}")

    def _load(self, stage: Reduce, cells: list[str], lanes: int) -> list[Reg]:
        k = self.k
        return [
            k.fresh(f"load {type_name(init.kind, lanes)}, ptr {cell}", init.kind, lanes)
            for cell, init in zip(cells, stage.init, strict=True)
        ]

    def _close(self, stage: Reduce, column: int) -> None:
        k = self.k
        total: list[Reg] | None = None
        for lanes, cells in self.slots[stage, column].items():
            parts = horizontal(k, stage, self._load(stage, cells, lanes))
            total = parts if total is None else stage.combine(k, total, parts)
        if total is None:
            return
        if all(stage.reduced):
            for tensor, reg in zip(stage.outputs, stage.finish(k, total), strict=True):
                index = spread([], tensor.shape)
                k.write(tensor, index, reg)
                k.remember((tensor, tuple(form.key for form in index), None, None), reg)
            return
        # The outputs hold the identity already.
        places = [spread([Linear(column)], tensor.shape) for tensor in stage.outputs]
        old = [load_now(k, tensor, place) for tensor, place in zip(stage.outputs, places, strict=True)]
        for tensor, place, reg in zip(stage.outputs, places, stage.combine(k, old, total), strict=True):
            k.write(tensor, place, reg)


def map_element(k: Kernel, stage: MapStage, index: Index) -> None:
    """Compute an element for the other stages of the nest, and write it if stages elsewhere read it.

    Elements are computed in the order of the stages, so that expressions do not nest too deeply.
    """
    value = k.read(stage.tensor, index)
    if stage.replaces:
        k.postponed.append((stage.tensor, index, value))
    elif not stage.virtual:
        k.write(stage.tensor, index, value)


def write_postponed(k: Kernel) -> None:
    """Write, at the end of a nest's body, what replaces elements that the body has read."""
    for tensor, index, value in k.postponed:
        k.write(tensor, index, value)
    k.postponed.clear()


def _num_columns(stage: Stage) -> int:
    return stage.space[1] if stage.space is not None and len(stage.space) == 2 else 1


def horizontal(k: Kernel, stage: Reduce, parts: list[Reg]) -> list[Reg]:
    """Combine the lanes of accumulators, halving their number each time."""
    lanes = parts[0].lanes
    while lanes > 1:
        half = lanes // 2
        low = [k.shuffle(part, list(range(half))) for part in parts]
        high = [k.shuffle(part, list(range(half, lanes))) for part in parts]
        parts = stage.combine(k, low, high)
        lanes = half
    return parts
