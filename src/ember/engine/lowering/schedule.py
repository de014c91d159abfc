"""Decide what is computed into memory, in which order, and which stages share a loop nest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .groups import Group
from .rows import join_rows
from .tensors import (
    ANYWHERE,
    SAME_PLACE,
    Map,
    MapStage,
    Prefix,
    Reduce,
    Scatter,
    Stage,
    Tensor,
    memory_of,
)

CHEAP = 4  # an expression of at most this many instructions is recomputed for each consumer
CHEAP_AMPLIFIED = 1  # and of at most this many if a consumer reads each element many times
FULL = 700  # a nest of at least this many instructions takes no more stages
LARGEST = 600  # an expression of more instructions than this is cut


class Block:
    """A straight-line piece of program: the whole, or the region of a loop or condition.

    :ivar inputs: tensors given from outside at entry (carries, slices, operands of the program).
    :ivar made: tensors in order of creation.
    :ivar stages: stages in order of creation, those of maps not yet included.
    :ivar donated: inputs whose memory the block may overwrite once they are no longer read.
    """

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.made: list[Tensor] = []
        self.stages: list[Stage] = []
        self.donated: set[Tensor] = set()
        self.chained: set[Tensor] = set()  # results of updates that end in the carry their chain began with
        self.groups: list[Group] = []
        self.placed: list[tuple[Any, int]] = []  # tensors and inner blocks with their offsets

    @property
    def weight(self) -> int:
        """Rough number of instructions."""
        return sum(group.weight for group in self.groups)


def plan(block: Block, keep: Iterable[Tensor] = ()) -> None:
    """Fill in ``block.groups`` from its tensors, stages and outputs.

    :param keep: tensors besides the outputs that must end up in memory.
    """
    live_maps, live_stages = _live(block, keep)
    wanted = [memory_of(tensor) for tensor in (*block.outputs, *keep)]
    stages = _materialise(block, live_maps, live_stages, wanted)
    for stage in stages:
        stage.leaves = _leaves(stage)
    stages = _order_updates(block, stages, wanted)
    block.groups = _group(stages)
    _mark_virtual(block, wanted)
    block.groups = join_rows(block.groups)
    for stage in stages:
        stage.plan_inside()


def _live(block: Block, keep: Iterable[Tensor]) -> tuple[list[Map], list[Stage]]:
    inside = set(block.made)
    seen: set[Tensor] = set()
    stages: set[Stage] = set()
    stack = [*block.outputs, *keep]
    while stack:
        tensor = stack.pop()
        if tensor in seen or tensor not in inside:
            continue
        seen.add(tensor)
        if tensor.stage is not None:
            if tensor.stage not in stages:
                stages.add(tensor.stage)
                stack.extend(operand for operand, _ in tensor.stage.operands)
        elif isinstance(tensor, Map):
            stack.extend(operand for operand, _ in tensor.operands)
    maps = [tensor for tensor in block.made if isinstance(tensor, Map) and tensor in seen]
    return maps, [stage for stage in block.stages if stage in stages]


def _materialise(
    block: Block, maps: Sequence[Map], stages: Sequence[Stage], wanted: Sequence[Tensor]
) -> list[Stage]:
    """Give a stage to each map that must or should be in memory; return all stages in order."""
    required: set[Tensor] = set(wanted)
    for stage in stages:
        required.update(memory_of(tensor) for tensor in stage.buffers())
    consumers: dict[Tensor, set[tuple[int, int]]] = {}
    amplified: dict[Tensor, bool] = {}
    numel: dict[int, int] = {}
    for consumer in (*maps, *stages):
        size = _iterations(consumer)
        numel[id(consumer)] = size
        for operand, aligned in consumer.operands:
            consumers.setdefault(operand, set()).add((id(consumer), aligned))
            if size > operand.numel and not (isinstance(consumer, Map) and _selects(consumer)):
                amplified[operand] = True
    repeated: dict[Tensor, bool] = {}
    for tensor in reversed(maps):  # consumers first: amplification passes through inlined views
        count = len(consumers.get(tensor, ()))
        repeated[tensor] = count > 1 or repeated.get(tensor, False)
        if tensor.alias_of is not None:
            repeated[tensor.alias_of] = repeated.get(tensor.alias_of, False) or repeated[tensor]
            amplified[tensor.alias_of] = amplified.get(tensor.alias_of, False) or amplified.get(tensor, False)
    made_position = {tensor: position for position, tensor in enumerate(block.made)}
    ordered: list[tuple[int, Stage]] = []
    for tensor in maps:
        tensor.total = tensor.cost + tensor.repeat * sum(
            operand.total if isinstance(operand, Map) and operand.stage is None else 1
            for operand, _ in tensor.operands
        )
        expensive = tensor.total - (1 if not tensor.operands else 0)
        if (
            tensor in required
            or (repeated[tensor] and expensive > CHEAP)
            or (amplified.get(tensor, False) and expensive > CHEAP_AMPLIFIED and tensor.operands)
            or tensor.total > LARGEST
            or (tensor.numel == 1 and repeated[tensor] and expensive > 1)
        ) and not (tensor.alias_of is not None and tensor not in required):
            stage = MapStage(tensor)
            stage.weight = tensor.total
            ordered.append((made_position[tensor], stage))
    for stage in stages:
        stage.weight += sum(
            operand.total
            for operand, _ in stage.operands
            if isinstance(operand, Map) and operand.stage is None
        )
        ordered.append((min(made_position[output] for output in stage.outputs), stage))
    ordered.sort(key=lambda item: item[0])
    return [stage for _, stage in ordered]


def _selects(consumer: Map) -> bool:
    """Say whether each element of the operands is read about once although the consumer is larger (cat, pad)."""
    return consumer.cost == 0 and len(consumer.operands) > 0


def _iterations(consumer: Map | Stage) -> int:
    if isinstance(consumer, Map):
        return consumer.numel
    if isinstance(consumer, (Reduce, Scatter, Prefix)):
        size = 1
        for extent in consumer.shape:
            size *= extent
        return size
    return 1 << 62 if consumer.space is None and not consumer.buffers() else 0


def _leaves(stage: Stage) -> dict[Tensor, int]:
    """Return the tensors in memory that a stage reads, each with where."""
    found: dict[Tensor, int] = {}
    seen: set[tuple[Tensor, int]] = set()
    stack = list(stage.operands)
    stack.extend((memory_of(tensor), ANYWHERE) for tensor in stage.buffers())
    while stack:
        tensor, level = stack.pop()
        if (tensor, level) in seen:
            continue
        seen.add((tensor, level))
        if isinstance(tensor, Map) and tensor.stage is None:
            stack.extend((operand, min(level, inner)) for operand, inner in tensor.operands)
        else:
            found[tensor] = min(found.get(tensor, SAME_PLACE), level)
    return found


def _order_updates(block: Block, stages: list[Stage], wanted: Sequence[Tensor]) -> list[Stage]:
    """Let updates overwrite their base where it is not read afterwards; return an order that allows it."""
    position = {stage: order for order, stage in enumerate(stages)}
    depends: dict[Stage, set[Stage]] = {
        stage: {leaf.stage for leaf in stage.leaves if leaf.stage in position} - {stage, None}  # type: ignore[misc]
        for stage in stages
    }
    own = {output for stage in stages for output in stage.outputs}
    overwritten: set[Tensor] = set()
    read_by: dict[Tensor, list[Stage]] = {}
    for stage in stages:
        for leaf in stage.leaves:
            read_by.setdefault(leaf, []).append(stage)
    for stage in stages:
        for base, output in stage.updates():
            if isinstance(base, Map) or base.shape != output.shape or base in wanted or base in overwritten:
                continue
            if base not in own and not (base in block.donated and output in block.chained):
                continue
            uses = [operand for operand, _ in stage.operands if base in _reads(operand)]
            if len(uses) != 1:
                continue
            memory = memory_of(base)
            if output.storage is not None and (memory.storage is not None or base not in own):
                continue
            readers = [other for other in read_by.get(base, ()) if other is not stage]
            if any(_reaches(depends, other, stage) for other in readers):
                continue
            if output.storage is not None:
                memory.storage = output.storage
            depends[stage].update(readers)
            overwritten.add(base)
            output.home = base
    return _topological(stages, depends)


def chain_start(tensor: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Follow updates back from a result; return where they began, and the results on the way."""
    steps: list[Tensor] = []
    while tensor.stage is not None:
        for base, output in tensor.stage.updates():
            if output is tensor:
                steps.append(tensor)
                tensor = base
                break
        else:
            break
    return tensor, steps


def _reads(tensor: Tensor) -> set[Tensor]:
    found: set[Tensor] = set()
    stack = [tensor]
    while stack:
        each = stack.pop()
        if each in found:
            continue
        found.add(each)
        if isinstance(each, Map) and each.stage is None:
            stack.extend(operand for operand, _ in each.operands)
    return found


def _reaches(depends: dict[Stage, set[Stage]], start: Stage, goal: Stage) -> bool:
    """Say whether ``start`` depends on ``goal``."""
    seen: set[Stage] = set()
    stack = [start]
    while stack:
        stage = stack.pop()
        if stage is goal:
            return True
        if stage not in seen:
            seen.add(stage)
            stack.extend(depends[stage])
    return False


def _topological(stages: list[Stage], depends: dict[Stage, set[Stage]]) -> list[Stage]:
    done: set[Stage] = set()
    out: list[Stage] = []
    for first in stages:
        stack = [(first, False)]
        while stack:
            stage, expanded = stack.pop()
            if stage in done:
                continue
            if expanded:
                done.add(stage)
                out.append(stage)
            else:
                stack.append((stage, True))
                stack.extend((each, False) for each in depends[stage] if each not in done)
    return out


def _group(stages: Sequence[Stage]) -> list[Group]:
    groups: list[Group] = []
    by_space: dict[tuple[int, ...], list[Group]] = {}
    readers: dict[Tensor, int] = {}  # last group that reads the memory of a tensor
    for stage in stages:
        earliest = 0
        for leaf, level in stage.leaves.items():
            maker = leaf.stage
            if maker is None or maker.group is None:
                continue
            together = level == SAME_PLACE and isinstance(maker, MapStage) and maker.space == stage.space
            earliest = max(earliest, maker.group.order + (0 if together else 1))
        for base, output in stage.updates():
            if output.home is base:
                earliest = max(earliest, readers.get(memory_of(base), -1) + 1)
        chosen = None
        if stage.space is not None:
            for group in by_space.get(stage.space, ()):
                if group.order >= earliest and group.load < FULL:
                    chosen = group
                    break
        if chosen is None:
            chosen = Group(len(groups), stage.space)
            groups.append(chosen)
            if stage.space is not None:
                by_space.setdefault(stage.space, []).append(chosen)
        chosen.members.append(stage)
        chosen.load += stage.weight
        stage.group = chosen
        for leaf in stage.leaves:
            memory = memory_of(leaf)
            readers[memory] = max(readers.get(memory, -1), chosen.order)
    return groups


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
