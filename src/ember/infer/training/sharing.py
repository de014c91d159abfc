"""Give each of several processes its part of a source of batches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from ember.errors import DataError, message


def share(source: Any, rank: int, world: int) -> Any:
    """Return the part of process ``rank`` of ``world``.

    A source with a method ``shard(rank, world)`` decides itself. A ``DataLoader`` with torch's
    ``DistributedSampler`` is a part already. Of other sources, which must give the same batches in the same
    order in every process, each takes every ``world``-th batch.

    :raises DataError: for a ``DataLoader`` that draws its own order in every process.
    """
    if hasattr(source, "shard"):
        return source.shard(rank, world)
    sampler = getattr(source, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        return source
    if hasattr(sampler, "generator"):  # RandomSampler and its like
        raise DataError(
            message(
                "a shuffling DataLoader has another order in every process",
                expected="one order for all, of which each takes a part",
                actual=type(sampler).__name__,
                fix="DataLoader(dataset, sampler=torch.utils.data.DistributedSampler(dataset), ...)",
            )
        )
    return _EveryNth(source, rank, world)


class _EveryNth:
    """Every ``world``-th batch from the ``rank``-th on, as long as there is one for every process."""

    def __init__(self, source: Any, rank: int, world: int) -> None:
        self._source, self._rank, self._world = source, rank, world

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._source)
        while len(group := list(islice(batches, self._world))) == self._world:
            yield group[self._rank]
