"""Show other processes that this one lives, and find out which of them do not."""

from __future__ import annotations

import threading
import time
from typing import Any

_EVERY = 0.3  # seconds between two beats
_SILENCE = 2.0  # seconds without a beat after which a process counts as dead
_PATIENCE = 10.0  # seconds that others are given to find out what happened


class Heartbeat:
    """A thread that counts up a key of the processes' store.

    :param store: the store of torch.distributed.
    :param prefix: of the keys; another one for each run.
    """

    def __init__(self, store: Any, prefix: str, rank: int, world: int) -> None:
        self._store = store.clone() if hasattr(store, "clone") else store  # a connection of its own
        self._prefix, self._rank, self._world = prefix, rank, world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="ember-heartbeat", daemon=True)
        self._thread.start()

    def _key(self, rank: int) -> str:
        return f"{self._prefix}/beat/{rank}"

    def _beat(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                self._store.add(self._key(self._rank), 1)
            except RuntimeError:  # the store's host is gone; whoever misses this process looks there, too
                return

    def close(self) -> None:
        """Stop beating."""
        self._stop.set()
        self._thread.join()

    def find_dead(self) -> int | None:
        """Return the rank of the process that died first, None if all live.

        All who ask get the same answer. A host of the store that does not answer is taken to be rank 0.
        """
        try:
            verdict = f"{self._prefix}/dead"
            if not self._store.check([verdict]):
                silent = self._silent()
                if not silent:
                    return None
                # The first verdict stands: those who gave it may be gone by the time that others ask.
                self._store.compare_set(verdict, "", str(silent[0]))
            dead = int(self._store.get(verdict))
            self._store.add(f"{self._prefix}/told", 1)
            return dead
        except RuntimeError:
            return 0

    def linger(self) -> None:
        """Wait a while until all that live know who is dead, if the store may be this process's own."""
        deadline = time.monotonic() + _PATIENCE
        while self._rank == 0 and time.monotonic() < deadline:
            if int(self._store.add(f"{self._prefix}/told", 0)) >= self._world - 1:
                return
            time.sleep(_EVERY)

    def _silent(self) -> list[int]:
        """Wait for a beat of every other process, and return those that give none.

        While several are silent there is more time: on a busy machine some may only be slow.
        """
        waiting = {rank: self._count(rank) for rank in range(self._world) if rank != self._rank}
        start = time.monotonic()
        while waiting and time.monotonic() - start < (_SILENCE if len(waiting) == 1 else _PATIENCE):
            time.sleep(_EVERY)
            waiting = {rank: count for rank, count in waiting.items() if self._count(rank) == count}
        return sorted(waiting)

    def _count(self, rank: int) -> int:
        return int(self._store.add(self._key(rank), 0))
