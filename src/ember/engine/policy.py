"""Choose between machine code and eager execution, and say once why machine code was not possible."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from ember import settings
from ember.engine.lowering.errors import NotLowerable
from ember.engine.refusal import NotCapturable

Native = TypeVar("Native")
Eager = TypeVar("Eager")

_log = logging.getLogger("ember")
_said: set[str] = set()


class ExecutionError(RuntimeError):
    """Machine code was demanded for something that has none."""


def native_or_eager(native: Callable[[], Native], eager: Callable[[], Eager], what: str) -> Native | Eager:
    """Build the native form, or the eager one where ``settings.execution`` or the program asks for it.

    :param native: may raise NotCapturable or NotLowerable.
    :param what: what is executed, for the message.
    :raises ExecutionError: if the setting is ``"native"`` and there is no native form, or ``"inductor"``.
    """
    policy = settings.read("execution")
    if policy == "eager":
        return eager()
    if policy == "inductor":
        raise ExecutionError(
            f"{what} cannot run by torch.compile in this version\n"
            "  fix: use execution='auto', 'native' or 'eager'"
        )
    try:
        return native()
    except (NotCapturable, NotLowerable, ImportError) as reason:
        if policy == "native":
            raise ExecutionError(f"{what} cannot run as machine code: {reason}") from reason
        say_once(f"{what} runs eagerly, with the same results but slower: {reason}")
        return eager()


def say_once(text: str) -> None:
    """Log a warning, the first time in this process."""
    if text not in _said:
        _said.add(text)
        _log.warning(text)
