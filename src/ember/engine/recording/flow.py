"""Hand control flow of a running capture to what records it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ember.engine.recording.branches import record_cond
from ember.engine.recording.recorder import DispatchRecorder
from ember.engine.recording.scans import record_scan
from ember.engine.recording.while_loops import record_while_loop


class RegionRecorder:
    """What :mod:`ember.engine.control` calls while a capture is in progress."""

    def __init__(self, recorder: DispatchRecorder) -> None:
        self.recorder = recorder

    def while_loop(self, condition: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
        return record_while_loop(self.recorder, condition, body, init)

    def cond(
        self,
        predicate: Any,
        if_true: Callable[..., Any],
        if_false: Callable[..., Any],
        operands: tuple[Any, ...],
    ) -> Any:
        return record_cond(self.recorder, predicate, if_true, if_false, operands)

    def scan(
        self,
        step: Callable[[Any, Any], tuple[Any, Any]],
        init: Any,
        xs: Any,
        length: int | None,
        reverse: bool,
    ) -> tuple[Any, Any]:
        return record_scan(self.recorder, step, init, xs, length, reverse)
