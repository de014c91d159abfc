"""Register plain torch modules that a container of a module tree hands out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class RegistersChildren:
    """Mixed into containers, whose children are not read as attributes.

    While the tree runs, a plain child that is looked up or iterated over is registered, as one that is an
    attribute would be; otherwise its parameters would never learn.
    """

    _modules: dict[str, Any]

    def _register(self) -> None:
        state: Any = self
        if state._pyro_context.depth:
            for name, child in self._modules.items():
                if child is not None and not hasattr(child, "_pyro_context"):
                    state._pyro_register_plain(name, child)

    def __iter__(self) -> Iterator[Any]:
        self._register()
        return super().__iter__()  # type: ignore[misc]

    def __getitem__(self, key: Any) -> Any:
        self._register()
        return super().__getitem__(key)  # type: ignore[misc]

    def items(self) -> Any:
        """Return the names and modules of a dict."""
        self._register()
        return super().items()  # type: ignore[misc]

    def values(self) -> Any:
        """Return the modules of a dict."""
        self._register()
        return super().values()  # type: ignore[misc]
