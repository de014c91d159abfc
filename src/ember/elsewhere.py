"""Find, for a package, the names that Pyro has in it and ember in another place, when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def names_of(package: str) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` for ``package``: its submodules, and what ember keeps elsewhere.

    So ``import ember as pyro`` is enough to say ``pyro.infer.autoguide.AutoNormal``, as with Pyro, and
    ``import ember`` need not load all that programs may name.
    """

    def find(name: str) -> Any:
        if not name.startswith("_"):
            facade = importlib.import_module("ember.compat.facade")
            try:
                return facade.below_package(package, name)
            except ImportError:
                pass  # said in the words of attributes
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    return find
