"""Place tensors in one workspace, sharing memory between those that are not alive together."""

from __future__ import annotations

from .block import Block
from .regions import RegionStage
from .stages import MapStage
from .tensors import Tensor, memory_of

ALIGNMENT = 64


def layout(block: Block) -> int:
    """Choose offsets for the block's tensors, relative to its own start; return its size."""
    ends: dict[Tensor, int] = {}
    starts: dict[Tensor, int] = {}
    last = len(block.groups)
    for group in block.groups:
        for stage in group.members:
            for leaf in stage.leaves:
                memory = memory_of(leaf)
                ends[memory] = max(ends.get(memory, 0), group.order)
            for output in (*stage.outputs, *(stage.private() if isinstance(stage, RegionStage) else ())):
                memory = memory_of(output)
                ends[memory] = max(ends.get(memory, 0), group.order)
                virtual = isinstance(stage, MapStage) and stage.virtual
                if output is memory and output.storage is None and not virtual:
                    starts[output] = group.order
    for tensor in block.outputs:
        ends[memory_of(tensor)] = last
    placed: list[tuple[int, int, int, int]] = []  # offset, end of memory, start and end of life
    top = 0
    items: list[tuple[int, int, int, Tensor | Block]] = [
        (start, ends[tensor], tensor.num_bytes, tensor) for tensor, start in starts.items()
    ]
    for group in block.groups:
        for stage in group.members:
            if isinstance(stage, RegionStage):
                items.extend((group.order, group.order, layout(child), child) for child in stage.blocks())
    items.sort(key=lambda item: item[0])
    block.placed = []
    for start, end, size, what in items:
        size = -(-max(size, 8) // ALIGNMENT) * ALIGNMENT if size > 8 else 8
        offset = _first_fit(placed, size, start, end)
        placed.append((offset, offset + size, start, end))
        placed.sort()
        top = max(top, offset + size)
        block.placed.append((what, offset))
    return top


def _first_fit(placed: list[tuple[int, int, int, int]], size: int, start: int, end: int) -> int:
    alignment = ALIGNMENT if size > 8 else 8
    offset = 0
    for low, high, first, last in placed:
        if last < start or first > end:
            continue
        if offset + size <= low:
            return offset
        offset = max(offset, -(-high // alignment) * alignment)
    return offset


def settle(block: Block, base: int) -> None:
    """Turn relative offsets into absolute ones, in the block and the blocks inside it."""
    for what, offset in block.placed:
        if isinstance(what, Block):
            settle(what, base + offset)
        else:
            what.storage = ("arena", base + offset)
