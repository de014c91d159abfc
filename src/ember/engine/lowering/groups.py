"""Hold stages that share a loop nest."""

from __future__ import annotations

from .stages import Stage


class Group:
    """Stages that run in one loop nest."""

    __slots__ = ("load", "members", "order", "space")

    def __init__(self, order: int, space: tuple[int, ...] | None) -> None:
        self.order = order
        self.space = space
        self.members: list[Stage] = []
        self.load = 0  # rough number of instructions while stages are being added

    @property
    def weight(self) -> int:
        """Rough number of instructions."""
        return 10 + sum(stage.weight for stage in self.members)
