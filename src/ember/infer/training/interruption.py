"""Let Ctrl-C end a run between two steps, and keep expected warnings out of it."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first Ctrl-C; a second one raises KeyboardInterrupt at once.

    A handler of the user's own stays in charge, and only the main thread hears the keyboard.
    """
    heard = False

    def handle(number: int, frame: Any) -> None:
        nonlocal heard
        if heard:
            raise KeyboardInterrupt
        heard = True
        stop()

    former = signal.getsignal(signal.SIGINT)
    ours = threading.current_thread() is threading.main_thread() and former is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, former)


@contextmanager
def without_loss_warnings() -> Iterator[None]:
    """Leave out the warnings of losses that are not finite: an error says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Encountered [^\n]*: loss")
        yield
