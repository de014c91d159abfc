"""Decide which tensors are computed into memory and which are inlined into their consumers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .block import Block
from .stages import MapStage, Prefix, Reduce, Scatter, Stage
from .tensors import ANYWHERE, SAME_PLACE, Map, Tensor, memory_of

CHEAP = 4  # an expression of at most this many instructions is recomputed for each consumer
CHEAP_AMPLIFIED = 1  # and of at most this many if a consumer reads each element many times
HIGHEST = 60  # a chain of more expressions inlined into each other is cut
LARGEST = 600  # an expression of more instructions than this is cut


def live(block: Block, keep: Iterable[Tensor]) -> tuple[list[Map], list[Stage]]:
    """Return the maps and stages that results depend on, in order of creation."""
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


def materialise(
    block: Block, maps: Sequence[Map], stages: Sequence[Stage], wanted: Sequence[Tensor]
) -> list[Stage]:
    """Give a stage to each map that must or should be in memory; return all stages in order."""
    required: set[Tensor] = set(wanted)
    for stage in stages:
        required.update(memory_of(tensor) for tensor in stage.buffers())
    consumers: dict[Tensor, set[tuple[int, int]]] = {}
    amplified: dict[Tensor, bool] = {}
    numel: dict[int, int] = {}
    everything: list[Map | Stage] = [*maps, *stages]
    for consumer in everything:
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
        inlined = [op for op, _ in tensor.operands if isinstance(op, Map) and op.stage is None]
        tensor.height = 1 + max((operand.height for operand in inlined), default=0)
        expensive = tensor.total - (1 if not tensor.operands else 0)
        if (
            tensor in required
            or (repeated[tensor] and expensive > CHEAP)
            or (amplified.get(tensor, False) and expensive > CHEAP_AMPLIFIED and tensor.operands)
            or tensor.total > LARGEST
            or tensor.height > HIGHEST
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
    """Say whether each element of the operands is read about once although the consumer is larger."""
    return consumer.cost == 0 and len(consumer.operands) > 0 and consumer.expanded is None


def _iterations(consumer: Map | Stage) -> int:
    if isinstance(consumer, Map):
        return consumer.numel
    if isinstance(consumer, (Reduce, Scatter, Prefix)):
        size = 1
        for extent in consumer.shape:
            size *= extent
        return size
    return 1 << 62 if consumer.space is None and not consumer.buffers() else 0


def leaves_of(stage: Stage) -> dict[Tensor, int]:
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
