"""Find updates that can overwrite their operand, and an order of stages that lets them."""

from __future__ import annotations

from collections.abc import Sequence

from .block import Block
from .inplace import Results
from .stages import Stage
from .tensors import Map, Tensor, memory_of


def order_updates(
    block: Block, stages: list[Stage], wanted: Sequence[Tensor], results: Results
) -> list[Stage]:
    """Let updates overwrite their base where it is not read afterwards; return an order that allows it.

    :param results: the stages that make the next state of a loop; they come late, if possible, so that they
        can overwrite the present one.
    """
    position = {stage: order for order, stage in enumerate(stages)}
    depends: dict[Stage, set[Stage]] = {
        stage: {leaf.stage for leaf in stage.leaves if leaf.stage in position} - {stage, None}
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
    _come_late(results, depends, read_by)
    return _topological(stages, depends)


def _come_late(
    results: Results, depends: dict[Stage, set[Stage]], read_by: dict[Tensor, list[Stage]]
) -> None:
    """Let what reads a carry come before the stage that replaces it, unless it needs that stage."""
    followers: dict[Stage, set[Stage]] = {stage: set() for stage in depends}
    for stage, needed in depends.items():
        for each in needed:
            followers[each].add(stage)
    for stage, pairs in results.items():
        after = _closure(stage, followers)
        for _, carry in pairs:
            for reader in read_by.get(carry, ()):
                if reader not in after:
                    depends[stage].add(reader)
                    followers[reader].add(stage)


def _closure(start: Stage, following: dict[Stage, set[Stage]]) -> set[Stage]:
    """Return a stage with all that follow it, directly or not."""
    seen: set[Stage] = set()
    stack = [start]
    while stack:
        stage = stack.pop()
        if stage not in seen:
            seen.add(stage)
            stack.extend(following[stage])
    return seen


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
