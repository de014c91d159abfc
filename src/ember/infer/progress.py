"""Show how far a run is: one bar, on terminals and in logs."""

from __future__ import annotations

import sys
from typing import Any, TextIO


class Progress:
    """A bar that counts to ``total``; nothing at all if ``disable``.

    In a terminal it moves; in a log, where each change is a new line, it speaks up every few seconds in plain
    ASCII.

    :param total: number of steps.
    :param disable: show nothing.
    :param file: where to write, by default stderr.
    """

    def __init__(self, total: int, disable: bool = False, file: TextIO | None = None) -> None:
        self._bar: Any = None
        if disable:
            return
        from tqdm.auto import tqdm

        file = sys.stderr if file is None else file
        terminal = file.isatty()
        self._bar = tqdm(
            total=total,
            file=file,
            ascii=not terminal,
            mininterval=0.1 if terminal else 10.0,
            dynamic_ncols=terminal,
            leave=True,
        )

    def advance(self, steps: int, stage: str, **figures: Any) -> None:
        """Count ``steps`` more, in ``stage``, and show some figures beside the bar."""
        if self._bar is None:
            return
        self._bar.set_description(stage, refresh=False)
        self._bar.set_postfix(figures, refresh=False)
        self._bar.update(steps)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
