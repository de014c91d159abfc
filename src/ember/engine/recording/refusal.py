"""Say why a function cannot be captured, and which line of the user's is the reason."""

from __future__ import annotations


class NotCapturable(Exception):
    """A function does something that a pure, statically shaped program cannot say.

    :param reason: one sentence on what stands in the way.
    :param op: name of the operation concerned, if it is one.
    :param where: the user's file, line and function.
    """

    def __init__(self, reason: str, op: str | None = None, where: str | None = None) -> None:
        super().__init__(reason, op, where)
        self.reason = reason
        self.op = op
        self.where = where

    def __str__(self) -> str:
        text = self.reason
        if self.op is not None:
            text += f" (operation {self.op})"
        if self.where is not None:
            text += f", at {self.where}"
        return text
