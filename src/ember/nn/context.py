"""Know whether a tree of modules is running, and keep what it drew in this call."""

from __future__ import annotations

from typing import Any


class ModuleContext:
    """Shared by a module and all its submodules; counts nested calls.

    Draws are kept to the end of the outermost call, so that one call uses one value of each attribute.
    """

    _transient_attributes = ("depth", "draws")

    def __init__(self) -> None:
        self.depth = 0
        self.draws: dict[str, Any] = {}

    @property
    def active(self) -> bool:
        """Whether a call of the module tree is running."""
        return self.depth > 0

    def __enter__(self) -> ModuleContext:
        if not self.depth:
            self.draws = {}
        self.depth += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self.depth -= 1
        if not self.depth:
            self.draws = {}

    def __reduce__(self) -> Any:
        # Copies and pickles start at rest.
        return ModuleContext, ()
