"""Define the refusal to lower an operation, with its reason and the user's line."""

from __future__ import annotations

from ember.errors import message


class NotLowerable(Exception):
    """Machine code cannot be made of an operation; run the program another way.

    :ivar op: name of the operation, such as ``aten.sort.default``.
    :ivar reason: why it cannot be lowered.
    :ivar where: the user's file and line, or None.
    """

    def __init__(self, op: str, reason: str, where: str | None = None) -> None:
        self.op = op
        self.reason = reason
        self.where = where
        super().__init__(
            message(
                f"{op} cannot be compiled to machine code: {reason}",
                where=where or "",
                fix="run this program with another execution policy, such as execution='eager'",
            )
        )
