"""Decide the order of stages, and which of them share a loop nest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .block import Block
from .groups import Group
from .inplace import Results, earliest_group, overwrite, results_of
from .materialise import leaves_of, live, materialise
from .narrow import columns_of, row_space
from .rows import join_rows
from .stages import MapStage, Stage
from .tensors import SAME_PLACE, SAME_ROW, Tensor, memory_of
from .updates import order_updates

FULL = 700  # a nest of at least this many instructions takes no more stages


def plan(block: Block, keep: Iterable[Tensor] = ()) -> None:
    """Fill in ``block.groups`` from its tensors, stages and outputs.

    :param keep: tensors besides the outputs that must end up in memory.
    """
    live_maps, live_stages = live(block, keep)
    wanted = [memory_of(tensor) for tensor in (*block.outputs, *keep)]
    stages = materialise(block, live_maps, live_stages, wanted)
    for stage in stages:
        stage.leaves = leaves_of(stage)
    results = results_of(block, stages)
    stages = order_updates(block, stages, wanted, results)
    block.groups = _group(stages, results)
    _mark_virtual(block, wanted)
    block.groups = join_rows(block.groups)
    overwrite(block, results)
    for stage in stages:
        stage.plan_inside()


def _group(stages: Sequence[Stage], results: Results) -> list[Group]:
    groups: list[Group] = []
    by_space: dict[tuple[int, ...], list[Group]] = {}
    readers: dict[Tensor, list[Stage]] = {}  # of the memory of a tensor, so far
    for stage in stages:
        earliest = earliest_group(stage, results.get(stage, ()), readers)
        for leaf, level in stage.leaves.items():
            maker = leaf.stage
            if maker is None or maker.group is None:
                continue
            together = isinstance(maker, MapStage) and _see_each_other(maker, stage, level)
            earliest = max(earliest, maker.group.order + (0 if together else 1))
        for base, output in stage.updates():
            if output.home is base:
                last = max((each.group.order for each in readers.get(memory_of(base), ())), default=-1)
                earliest = max(earliest, last + 1)
        chosen = None
        if stage.space is not None:
            for group in by_space.get(row_space(stage.space), ()):
                if group.order >= earliest and group.load < FULL:
                    chosen = group
                    break
        if chosen is None:
            chosen = Group(len(groups), stage.space)
            groups.append(chosen)
            if stage.space is not None:
                by_space.setdefault(row_space(stage.space), []).append(chosen)
        chosen.members.append(stage)
        chosen.load += stage.weight * (1 if stage.space is None else columns_of(stage.space))
        stage.group = chosen
        for memory in {memory_of(leaf) for leaf in stage.leaves}:
            readers.setdefault(memory, []).append(stage)
    return groups


def _see_each_other(maker: Stage, reader: Stage, level: int) -> bool:
    """Say whether a reader in the same nest finds what another stage makes, at the places where it reads."""
    if maker.space is None or reader.space is None:
        return False
    if level == SAME_PLACE:
        return maker.space == reader.space
    # With columns written out, all of a row is at hand.
    return (
        level == SAME_ROW
        and row_space(maker.space) == row_space(reader.space)
        and len(row_space(reader.space)) == 1
    )


def _mark_virtual(block: Block, wanted: Sequence[Tensor]) -> None:
    """Find stages whose elements only members of their own group read: these need no memory."""
    needed = set(wanted)
    for group in block.groups:
        for stage in group.members:
            for leaf in stage.leaves:
                if leaf.stage is not None and leaf.stage.group is not group:
                    needed.add(leaf)
    for group in block.groups:
        for stage in group.members:
            if isinstance(stage, MapStage):
                stage.virtual = stage.tensor not in needed
