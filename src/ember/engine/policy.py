"""Choose how something is executed, saying once why not as machine code; and how that keeps data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from ember import settings
from ember.engine.lowering.errors import NotLowerable
from ember.engine.recording.refusal import NotCapturable

Native = TypeVar("Native")
Eager = TypeVar("Eager")
Inductor = TypeVar("Inductor")

_log = logging.getLogger("ember")
_said: set[str] = set()
_LARGE_DATA = 1 << 15  # numbers of which data has to consist to be kept as float32


class ExecutionError(RuntimeError):
    """An execution was demanded for something that has none of its kind."""


class NotInductable(Exception):
    """torch.compile cannot make anything of a program."""


def native_or_eager(
    native: Callable[[], Native],
    eager: Callable[[], Eager],
    what: str,
    inductor: Callable[[], Inductor] | None = None,
) -> Native | Eager | Inductor:
    """Build the form that ``settings.execution`` asks for; by default native, or eager where it must be.

    :param native: may raise NotCapturable or NotLowerable.
    :param what: what is executed, for the message.
    :param inductor: the form that torch.compile makes, if there is one; may raise NotCapturable or
        NotInductable.
    :raises ExecutionError: if the setting is ``"native"`` or ``"inductor"`` and there is no such form.
    """
    policy = settings.read("execution")
    if policy == "eager":
        return eager()
    if policy == "inductor":
        return _by_inductor(inductor, what)
    try:
        return native()
    except (NotCapturable, NotLowerable, ImportError) as reason:
        if policy == "native":
            raise ExecutionError(f"{what} cannot run as machine code: {reason}") from reason
        say_once(f"{what} runs eagerly, with the same results but slower: {reason}")
        return eager()


def _by_inductor(inductor: Callable[[], Inductor] | None, what: str) -> Inductor:
    fix = "\n  fix: use execution='auto', 'native' or 'eager'"
    if inductor is None:
        raise ExecutionError(f"{what} has no form that torch.compile could make{fix}")
    try:
        return inductor()
    except (NotCapturable, NotInductable) as reason:
        raise ExecutionError(f"{what} cannot run by torch.compile: {reason}{fix}") from reason


def compact_inputs(inputs: Sequence[torch.Tensor], first: int) -> list[int]:
    """Return the positions of large data that ``settings.data_storage`` wants read as float32.

    Data that does not fit the cache is read twice as fast so; it is widened as it is read, and all arithmetic
    stays in float64. Numbers that float32 does not hold are rounded, once, to 24 bits.

    :param first: position of the first input that is data rather than a state.
    """
    if settings.read("data_storage") == "float64":
        return []
    return [
        position
        for position, each in enumerate(inputs)
        if position >= first and each.dtype == torch.float64 and each.numel() >= _LARGE_DATA
    ]


def say_once(text: str) -> None:
    """Log a warning, the first time in this process."""
    if text not in _said:
        _said.add(text)
        _log.warning(text)
