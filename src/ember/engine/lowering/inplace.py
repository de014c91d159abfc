"""Let a loop's body compute its next state in the memory of the present one, where nobody needs that more.

Without this each iteration writes the new state apart and copies it over the old one. The order of stages is
chosen so that what reads the old state comes first; whether that worked is decided on the finished schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .block import Block
from .groups import Group
from .rows import Chain
from .stages import MapStage, Stage
from .tensors import SAME_PLACE, Map, Tensor, memory_of, squeeze

Results = Mapping[Stage, Sequence[tuple[Tensor, Tensor]]]
"""For stages that make the next state of a loop, what they make and the carry it replaces."""


def results_of(block: Block, stages: Iterable[Stage]) -> Results:
    """Return, for each stage that makes the next state, what it makes and the carry it replaces."""
    inside = set(stages)
    found: dict[Stage, list[tuple[Tensor, Tensor]]] = {}
    taken: set[Tensor] = set()
    for carry, result in block.carried:
        memory = memory_of(result)
        stage = memory.stage
        if (
            stage in inside
            and stage is not None
            and memory not in taken
            and memory.storage is None
            and memory.kind == carry.kind
            and squeeze(memory.shape) == squeeze(carry.shape)
            and memory.numel > 0
            and not (isinstance(memory, Map) and memory.undefined)
        ):
            taken.add(memory)
            found.setdefault(stage, []).append((memory, carry))
    return found


def reads_at_own_place(reader: Stage, writer: Stage, carry: Tensor) -> bool:
    """Say whether a stage, in one nest with that which overwrites a carry, reads what is replaced next."""
    if not isinstance(writer, MapStage) or reader.space is None or reader.space != writer.space:
        return False
    memory = memory_of(carry)
    return all(level == SAME_PLACE for leaf, level in reader.leaves.items() if memory_of(leaf) is memory)


def overwrite(block: Block, results: Results) -> None:
    """Give results the memory of the carry where all who read that are done, or are at the same place."""
    if not results:
        return
    place: dict[Stage, Group] = {stage: group for group in block.groups for stage in group.members}
    readers: dict[Tensor, list[Stage]] = {}
    for stage in place:
        for memory in {memory_of(leaf) for leaf in stage.leaves}:
            readers.setdefault(memory, []).append(stage)
    for writer, pairs in results.items():
        for result, carry in pairs:
            if all(
                _is_before(place[reader], place[writer], reader, writer, carry)
                for reader in readers.get(memory_of(carry), ())
            ):
                result.home = carry
                if isinstance(writer, MapStage):
                    writer.replaces = True


def _is_before(reading: Group, writing: Group, reader: Stage, writer: Stage, carry: Tensor) -> bool:
    if reading is not writing:
        return reading.order < writing.order
    return not isinstance(writing, Chain) and reads_at_own_place(reader, writer, carry)


def earliest_group(
    writer: Stage,
    pairs: Sequence[tuple[Tensor, Tensor]],
    readers: Mapping[Tensor, Sequence[Stage]],
) -> int:
    """Return the first group in which a stage could overwrite what others have read so far."""
    earliest = 0
    for _, carry in pairs:
        for reader in readers.get(memory_of(carry), ()):
            together = reads_at_own_place(reader, writer, carry)
            earliest = max(earliest, reader.group.order + (0 if together else 1))
    return earliest
