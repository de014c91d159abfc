"""Run several rows of a nest at once: one load of what they share, and their sums turned into one vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from . import index as ix
from .elements import Reg, type_name
from .index import Linear, Var
from .kernel import Kernel
from .loops import UNROLLED_CHUNKS, loop
from .narrow import map_element, write_postponed
from .stages import MapStage, Reduce, Stage
from .tensors import spread

MOST_INSTRUCTIONS = 600  # of a tile's straight code


def tile_height(k: Kernel, members: Sequence[Stage], space: tuple[int, ...]) -> int:
    """Return how many rows to take at once, or 0 where rows are better taken singly."""
    if k.lanes == 1 or len(space) < 2 or not all(isinstance(each, (MapStage, Reduce)) for each in members):
        return 0
    rows, columns = space[-2:]
    if rows < 2 * k.lanes or columns == 0 or (columns % k.lanes and not k.masked_tails):
        return 0
    reductions = [each for each in members if isinstance(each, Reduce)]
    if all(all(each.reduced) for each in reductions):
        return 0
    if any(any(each.reduced[:-2]) and each.reduced[-2:] == (False, True) for each in reductions):
        return 0
    chunks = math.ceil(columns / k.lanes)
    weight = sum(each.weight for each in members) * (chunks if chunks <= UNROLLED_CHUNKS else 1)
    return k.lanes if weight * k.lanes <= MOST_INSTRUCTIONS else 0


class Tile:
    """The rows ``first … first + height − 1`` of a nest whose innermost loops are over rows and columns.

    :param accumulate: takes the combined values of all rows for reductions that are not along the columns.
    """

    def __init__(
        self,
        k: Kernel,
        members: Sequence[Stage],
        columns: int,
        height: int,
        accumulate: Callable[[Reduce, list[Linear], list[Reg]], None],
    ) -> None:
        self.k = k
        self.members = members
        self.columns = columns
        self.height = height
        self.accumulate = accumulate
        self.along = [
            each for each in members if isinstance(each, Reduce) and each.reduced[-2:] == (False, True)
        ]

    def run(self, first: Linear, outer: Sequence[Linear] = ()) -> None:
        """Emit the tile, inside loops with the variables ``outer``."""
        k = self.k
        slots = {stage: [self._open(stage) for _ in range(self.height)] for stage in self.along}
        rows = [first.shift(row) for row in range(self.height)]
        loop(k, self.columns, k.lanes, lambda column: self._body(outer, rows, column, slots))
        for stage in self.along:
            self._close(stage, outer, first, slots[stage])

    def _open(self, stage: Reduce) -> list[str]:
        k = self.k
        cells = [k.alloca(init.kind, k.lanes) for init in stage.init]
        for cell, init in zip(cells, stage.init, strict=True):
            k.line(f"store {type_name(init.kind, k.lanes)} {k.splat(init, k.lanes).text}, ptr {cell}")
        return cells

    def _body(
        self,
        outer: Sequence[Linear],
        rows: list[Linear],
        column: Linear,
        slots: dict[Reduce, list[list[str]]],
    ) -> None:
        k = self.k
        for stage in self.members:
            if isinstance(stage, MapStage):
                for row in rows:
                    map_element(k, stage, spread([*outer, row, column], stage.tensor.shape))
            elif isinstance(stage, Reduce):
                values = [stage.value(k, spread([*outer, row, column], stage.shape)) for row in rows]
                if stage in slots:
                    for cells, each in zip(slots[stage], values, strict=True):
                        self._combine(stage, cells, each)
                elif stage.reduced[-2]:
                    while len(values) > 1:
                        pairs = zip(values[::2], values[1::2], strict=True)
                        values = [stage.combine(k, one, other) for one, other in pairs]
                    self.accumulate(stage, [*outer, rows[0], column], values[0])
                else:
                    for row, each in zip(rows, values, strict=True):
                        self.accumulate(stage, [*outer, row, column], each)
        write_postponed(k)

    def _combine(self, stage: Reduce, cells: list[str], values: list[Reg]) -> None:
        k = self.k
        old = self._load(stage, cells)
        new = stage.combine(k, old, [k.splat(value, k.lanes) for value in values])
        for cell, before, after in zip(cells, old, new, strict=True):
            kept = k.splat(after if k.mask is None else k.select(k.mask, after, before), k.lanes)
            k.line(f"store {type_name(kept.kind, k.lanes)} {kept.text}, ptr {cell}")

    def _load(self, stage: Reduce, cells: list[str]) -> list[Reg]:
        k = self.k
        return [
            k.fresh(f"load {type_name(init.kind, k.lanes)}, ptr {cell}", init.kind, k.lanes)
            for cell, init in zip(cells, stage.init, strict=True)
        ]

    def _close(self, stage: Reduce, outer: Sequence[Linear], first: Linear, slots: list[list[str]]) -> None:
        """Combine each row's lanes, the rows' results ending in the lanes of one register."""
        k = self.k
        parts = [self._load(stage, cells) for cells in slots]
        width = k.lanes  # lanes that still belong to one row
        while width > 1:
            low, high = _halves(k.lanes, width)
            paired = []
            for one, other in zip(parts[::2], parts[1::2], strict=True):
                lows = [k.shuffle_two(a, c, low) for a, c in zip(one, other, strict=True)]
                highs = [k.shuffle_two(a, c, high) for a, c in zip(one, other, strict=True)]
                paired.append(stage.combine(k, lows, highs))
            parts = paired
            width //= 2
        base, rest = first.terms[0]
        low_row, high_row = first.range()
        row = ix.of(Var(base.base, low_row, high_row + self.height - 1, self.height))
        row = row.shift(first.const) if rest == 1 else row
        mask, k.mask = k.mask, None
        for tensor, reg in zip(stage.outputs, stage.finish(k, parts[0]), strict=True):
            k.write(tensor, spread([*outer, row], tensor.shape), reg)
        k.mask = mask


def _halves(lanes: int, width: int) -> tuple[list[int], list[int]]:
    """Return, over two registers side by side, the first and second halves of each row's ``width`` lanes."""
    groups = range(0, 2 * lanes, width)
    half = width // 2
    return (
        [start + lane for start in groups for lane in range(half)],
        [start + half + lane for start in groups for lane in range(half)],
    )
