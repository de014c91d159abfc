"""Fix the random state inside a block, and restore it after."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from ember.poutine.messenger import BoundHandler, Messenger
from ember.random_state import get_rng_state, set_rng_seed, set_rng_state


class SeedMessenger(Messenger):
    """Seed torch, numpy and Python's random inside; restore their states on exit.

    It handles no messages, so it is not put on the stack.

    :param rng_seed: an int.
    :raises ValueError: if the seed is not an int.
    """

    def __init__(self, rng_seed: int) -> None:
        if not isinstance(rng_seed, int):
            raise ValueError(f"rng_seed must be an int, got {rng_seed!r}")
        self.rng_seed = rng_seed
        self._former: list[dict[str, Any]] = []

    def __enter__(self) -> None:
        self._former.append(get_rng_state())
        set_rng_seed(self.rng_seed)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        set_rng_state(self._former.pop())
        return None

    def __call__(self, fn: Callable[..., Any]) -> BoundHandler:
        return BoundHandler(self, fn)
