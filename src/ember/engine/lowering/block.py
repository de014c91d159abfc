"""Define blocks: straight-line pieces of program, the whole or the region of a loop or condition."""

from __future__ import annotations

from typing import Any

from .groups import Group
from .stages import Stage
from .tensors import Tensor


class Block:
    """A straight-line piece of program: the whole, or the region of a loop or condition.

    :ivar made: tensors in order of creation.
    :ivar stages: stages in order of creation, those of maps not yet included.
    :ivar donated: inputs whose memory the block may overwrite once they are no longer read.
    """

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []
        self.made: list[Tensor] = []
        self.stages: list[Stage] = []
        self.donated: set[Tensor] = set()
        self.chained: set[Tensor] = set()  # results of updates that end in the carry their chain began with
        self.carried: list[tuple[Tensor, Tensor]] = []  # of a loop's body: present and next state
        self.groups: list[Group] = []
        self.placed: list[tuple[Any, int]] = []  # tensors and inner blocks with their offsets

    @property
    def weight(self) -> int:
        """Rough number of instructions."""
        return sum(group.weight for group in self.groups)
