"""Join loop nests over the rows of the same large tensor, so that it is read from memory once.

A regression reads its design matrix for the predictor, and again for the gradient: the nests run alternately
on blocks of rows that stay in the nearest cache.
"""

from __future__ import annotations

from collections.abc import Sequence

from .groups import Group
from .stages import MapStage, Reduce, Scatter, Stage
from .tensors import ANYWHERE, Tensor, memory_of

LARGE = 1 << 18  # bytes from which a tensor is worth reading once
BLOCK_BYTES = 4 << 10  # of the large tensors' rows in one block: the next one is fetched meanwhile
SMALLEST_BLOCK, LARGEST_BLOCK = 8, 512
WINDOW = 64  # groups looked at for one chain


class Chain(Group):
    """Nests that run alternately, block of rows by block of rows."""

    __slots__ = ("block_rows", "large", "num_rows", "parts")

    def __init__(self, parts: Sequence[Group], num_rows: int, block_rows: int, large: list[Tensor]) -> None:
        super().__init__(parts[0].order, None)
        self.parts = list(parts)
        self.num_rows = num_rows
        self.block_rows = block_rows
        self.large = large  # tensors that each block of rows fetches
        self.members = [stage for part in parts for stage in part.members]


def join_rows(groups: list[Group]) -> list[Group]:
    """Return the schedule with chains in it, renumbered."""
    out: list[Group] = []
    rest = list(groups)
    while rest:
        first = rest.pop(0)
        chain, before, after = _chain_from(first, rest[:WINDOW])
        if chain is None:
            out.append(first)
        else:
            out.extend([*before, chain])
            rest = after + rest[WINDOW:]
    for order, group in enumerate(out):
        group.order = order
        for part in group.parts if isinstance(group, Chain) else ():
            part.order = order
    return out


def _chain_from(first: Group, rest: Sequence[Group]) -> tuple[Chain | None, list[Group], list[Group]]:
    if not _by_rows(first) or not _large_reads(first):
        return None, [], []
    parts = [first]
    before: list[Group] = []
    after: list[Group] = []
    for group in rest:
        needs = _dependencies(group, [*parts, *after])
        if any(other in after for other in needs):
            after.append(group)
        elif not needs:
            # Independent of the chain: part of it if it shares a large tensor, else done first.
            shared = _by_rows(group) and group.space[0] == first.space[0] and _share(parts, group)  # type: ignore[index]
            (parts if shared else before).append(group)
        elif _follows(group, parts):
            parts.append(group)
        else:
            after.append(group)
    while len(parts) > 1 and not _share(parts[:-1], parts[-1]):
        # The tail gains nothing from being in the chain unless a later part needs it.
        after.insert(0, parts.pop())
    if len(parts) < 2:
        return None, [], []
    after.sort(key=lambda group: group.order)
    rows = first.space[0]  # type: ignore[index]
    large = {tensor for part in parts for tensor in _large_reads(part)}
    widest = max((tensor.num_bytes // rows for tensor in large), default=8)
    block = max(SMALLEST_BLOCK, min(LARGEST_BLOCK, BLOCK_BYTES // max(widest, 1)))
    # In the order of the leaves, so that the same program always gives the same text.
    fetched = [each for part in parts for stage in part.members for each in map(memory_of, stage.leaves)]
    inside = {id(stage) for part in parts for stage in part.members}
    ordered = [
        each
        for each in dict.fromkeys(fetched)
        if each in large and each.shape[0] == rows and id(each.stage) not in inside
    ]
    return Chain(parts, rows, block - block % SMALLEST_BLOCK, ordered), before, after


def _by_rows(group: Group) -> bool:
    return bool(group.space) and all(
        isinstance(stage, (MapStage, Reduce, Scatter)) and stage.space == group.space
        for stage in group.members
    )


def _large_reads(group: Group) -> set[Tensor]:
    """Return large tensors that the group reads row by row."""
    return {
        memory_of(leaf)
        for stage in group.members
        for leaf, level in stage.leaves.items()
        if level != ANYWHERE and leaf.num_bytes >= LARGE
    }


def _share(parts: Sequence[Group], group: Group) -> bool:
    reads = _large_reads(group)
    return any(reads & _large_reads(part) for part in parts)


def _dependencies(group: Group, others: Sequence[Group]) -> list[Group]:
    """Return those of the groups that must come before this one."""
    needed = set()
    makers = {id(stage): other for other in others for stage in other.members}
    overwritten = {
        memory_of(base) for stage in group.members for base, output in stage.updates() if output.home is base
    }
    for stage in group.members:
        for leaf in stage.leaves:
            maker = makers.get(id(leaf.stage))
            if maker is not None:
                needed.add(id(maker))
    for other in others:
        if overwritten and any(memory_of(leaf) in overwritten for s in other.members for leaf in s.leaves):
            needed.add(id(other))
    return [other for other in others if id(other) in needed]


def _follows(group: Group, parts: Sequence[Group]) -> bool:
    """Say whether a group needs, of earlier parts, only the rows that it works on."""
    if not _by_rows(group) or group.space[0] != parts[0].space[0]:  # type: ignore[index]
        return False
    inside = {id(stage) for part in parts for stage in part.members}
    for stage in group.members:
        for base, output in stage.updates():
            if output.home is base or id(base.stage) in inside:
                return False
        for leaf, level in stage.leaves.items():
            if id(leaf.stage) in inside and (level == ANYWHERE or not _finishes_rows(leaf.stage)):
                return False
    return True


def _finishes_rows(stage: Stage | None) -> bool:
    if isinstance(stage, MapStage):
        return True
    return isinstance(stage, Reduce) and bool(stage.reduced) and not stage.reduced[0]
