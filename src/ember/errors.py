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


class FileFormatError(ValueError):
    """A file is truncated, damaged, or not of the expected format."""


def user_location() -> str | None:
    """Return ``file:line in function`` of the innermost frame outside ember and torch, or None.

    Walks the Python stack, so call it when building a message and not on hot paths.
    """
    import torch

    skip = (_PACKAGE, os.path.dirname(os.path.abspath(torch.__file__)) + os.sep)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        # Frames of the standard library's contextlib stand between a user and our decorators.
        if not filename.startswith(skip) and not filename.endswith(("contextlib.py", "functools.py")):
            return f"{filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return None


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
