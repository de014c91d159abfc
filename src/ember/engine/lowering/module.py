"""Collect the functions, constants and declarations of one LLVM module."""

from __future__ import annotations


class Module:
    """The functions, globals and declarations of one compilation."""

    def __init__(self) -> None:
        self.functions: list[str] = []
        self.declarations: dict[str, str] = {}
        self.globals: dict[str, str] = {}
        self.symbols: set[str] = set()  # external functions to be resolved when loading
        self.mathematics: dict[str, str] = {}  # elementary functions, one per number of lanes
        self.num_calls = 0  # of these
        self.helpers: dict[str, str] = {}  # other functions that the code calls
        self.num_parts = 0
        self.checks = False  # whether indices are checked

    def declare(self, name: str, signature: str) -> str:
        """Declare an intrinsic or external function once; ``signature`` has ``%s`` for its name."""
        self.declarations.setdefault(name, "declare " + signature % f"@{name}")
        return name

    def text(self) -> str:
        """Return the whole module."""
        parts = [
            *self.globals.values(),
            *self.declarations.values(),
            *self.mathematics.values(),
            *self.helpers.values(),
            *self.functions,
        ]
        return "\n".join(parts) + "\n"
