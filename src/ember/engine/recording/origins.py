"""Find the user's line and the sample site that an operation comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FrameType, TracebackType
from typing import TypeVar

import torch

from ember.engine.control import active_recorder
from ember.errors import _PACKAGE

Result = TypeVar("Result")

_TORCH = torch.__path__[0]
_current_site: ContextVar[str | None] = ContextVar("ember_recording_site", default=None)


@contextmanager
def recording_site(name: str | None) -> Iterator[None]:
    """Attribute the operations captured inside the ``with`` block, and their gradients, to a sample site."""
    token = _current_site.set(name)
    try:
        yield
    finally:
        _current_site.reset(token)


def in_site(name: str, call: Callable[[], Result]) -> Result:
    """Call a function, and if a capture is in progress attribute its operations to a sample site."""
    if active_recorder.get() is None:
        return call()
    with recording_site(name):
        return call()


def users_line(traceback: TracebackType | None) -> str | None:
    """Return file and line of the innermost frame of a traceback outside ember and torch."""
    found = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith((_PACKAGE, _TORCH, "<frozen")):
            found = f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}"
        traceback = traceback.tb_next
    return found


class Origins:
    """Knows where the operations of one capture come from; gradients come from where their operation does."""

    def __init__(self, lines: bool) -> None:
        self._lines = lines
        self._is_users: dict[CodeType, bool] = {}
        self._known: dict[int, tuple[str | None, str | None]] = {}

    def current(self) -> tuple[str | None, str | None]:
        """Return file and line, and site, of the operation being dispatched."""
        node = torch._C._current_autograd_node()
        if node is not None:
            return self._known.get(node._sequence_nr(), (None, None))
        found = (self._users_line() if self._lines else None, _current_site.get())
        # The autograd node of this operation was created just before the operation was dispatched.
        self._known[torch._C._autograd._get_sequence_nr() - 1] = found
        return found

    def _users_line(self) -> str | None:
        frame: FrameType | None = sys._getframe(3)
        while frame is not None:
            code = frame.f_code
            users = self._is_users.get(code)
            if users is None:
                users = not code.co_filename.startswith((_PACKAGE, _TORCH, "<"))
                self._is_users[code] = users
            if users:
                return f"{code.co_filename}:{frame.f_lineno}"
            frame = frame.f_back
        return None
