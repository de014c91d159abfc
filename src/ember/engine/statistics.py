"""Count captures, compilations and cache hits, so that their cost is visible."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields


@dataclass
class Statistics:
    """What the engine has done in this process.

    :ivar captures: functions captured as programs.
    :ivar compilations: programs compiled to machine code from scratch.
    :ivar memory_hits: programs found compiled in this process.
    :ivar disk_hits: programs found compiled in the user's cache directory.
    :ivar capture_seconds: time spent capturing.
    :ivar compile_seconds: time spent lowering, compiling and loading.
    """

    captures: int = 0
    compilations: int = 0
    memory_hits: int = 0
    disk_hits: int = 0
    capture_seconds: float = 0.0
    compile_seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, **amounts: float) -> None:
        """Add to counters by name; safe from several threads."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)

    def snapshot(self) -> dict[str, float]:
        """Return the counters as a dict.

        >>> sorted(Statistics().snapshot())[:2]
        ['capture_seconds', 'captures']
        """
        with self._lock:
            return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "_lock"}

    def reset(self) -> None:
        """Set all counters to zero."""
        with self._lock:
            for each in fields(self):
                if each.name != "_lock":
                    setattr(self, each.name, each.default)


statistics = Statistics()

__all__ = ["Statistics", "statistics"]
