"""Say what went wrong, where, what was expected and how to mend it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from types import FrameType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class MissingParameterError(KeyError):
    """A parameter was asked for that has neither a stored nor an initial value."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class InitialisationError(ValueError):
    """No starting point with finite log density and gradient was found."""


class NotFiniteError(FloatingPointError):
    """A loss or its gradient is infinite or NaN."""


class DataError(ValueError):
    """A source of data gives nothing, ends early, or gives what a model cannot take."""


class WorkerError(RuntimeError):
    """Another process of a data-parallel run failed or died.

    :param rank: its rank, or None if it could not be found out.
    """

    def __init__(self, text: str, rank: int | None = None) -> None:
        super().__init__(text)
        self.rank = rank


class FileFormatError(ValueError):
    """A file is truncated, damaged, or not of the expected format."""


def user_location() -> str | None:
    """Return ``file:line in function`` of the innermost frame outside ember and torch, or None."""
    place = user_place(2)
    return None if place is None else describe_place(place)


def user_place(depth: int = 1) -> tuple[str, int, str] | None:
    """Return (file, line, function) of the innermost frame outside ember and torch, cheaply, or None.

    :param depth: number of frames to leave out, this one included.
    """
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        internal = _internal_files.get(code.co_filename)
        if internal is None:
            internal = _internal_files[code.co_filename] = is_internal(code.co_filename)
        if not internal:
            return code.co_filename, frame.f_lineno, code.co_name
        frame = frame.f_back
    return None


def describe_place(place: tuple[str, int, str]) -> str:
    """Return ``file:line in function``."""
    return f"{place[0]}:{place[1]} in {place[2]}"


_internal_files: dict[str, bool] = {}


def is_internal(filename: str) -> bool:
    """Whether a file belongs to ember, to torch, or to what stands between users and our decorators."""
    import torch

    ours = (_PACKAGE, os.path.dirname(os.path.abspath(torch.__file__)) + os.sep)
    return filename.startswith(ours) or filename.endswith(("contextlib.py", "functools.py"))


def message(
    what: str,
    *,
    site: str | None = None,
    plates: Iterable[object] | None = None,
    expected: object = None,
    actual: object = None,
    fix: str | None = None,
    where: str | None = None,
) -> str:
    """Build the text of an error: what / where / expected and actual / fix.

    :param what: one sentence that says what is wrong.
    :param site: name of the site, parameter or plate concerned.
    :param plates: the plate stack at that place, outermost first.
    :param expected: what would have been right.
    :param actual: what was found.
    :param fix: how the user can mend it.
    :param where: a source location; by default the user's innermost frame.
    """
    lines = [what]
    place = []
    if site is not None:
        place.append(f"site '{site}'")
    if plates is not None:
        stack = ", ".join(_describe_plate(plate) for plate in plates)
        if stack:
            place.append(f"plates [{stack}]")
    location = user_location() if where is None else where
    if location:
        place.append(location)
    if place:
        lines.append("  where: " + ", ".join(place))
    if expected is not None:
        lines.append(f"  expected: {expected}")
    if actual is not None:
        lines.append(f"  actual: {actual}")
    if fix is not None:
        lines.append(f"  fix: {fix}")
    return "\n".join(lines)


def _describe_plate(plate: object) -> str:
    name, dim, size = (getattr(plate, field, None) for field in ("name", "dim", "size"))
    if name is None:
        return str(plate)
    return f"{name}(size={size}, dim={dim})"
