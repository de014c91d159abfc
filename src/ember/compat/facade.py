"""Answer for Pyro's modules: module objects whose names are looked up in ember when they are asked for."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import FunctionType, ModuleType
from typing import Any

from ember.compat.paths import PYRO_VERSION, TABLE

ROOT = "pyro"
_ABSENT = object()


class PyroModulePath(ModuleType):
    """Stand for ``pyro`` or one of its modules; every name in it is ember's own object."""

    def __init__(self, path: str) -> None:
        super().__init__(path, f"Give ember's objects under the names of ``{path}``.")
        self.__path__: list[str] = []  # a package, so that submodules are looked for
        self.__file__ = __file__
        if path == ROOT:
            self.__version__ = PYRO_VERSION

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return _public_names(self.__name__)
        if name.startswith("__"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        value = _look_up(self.__name__, name)
        if value is _ABSENT:
            raise AttributeError(_not_part(f"{self.__name__}.{name}"))
        # What never changes need not be looked up again; values such as switches must be.
        if isinstance(value, type | FunctionType | ModuleType):
            self.__dict__[name] = value
        return value

    def __dir__(self) -> list[str]:
        return sorted({*_public_names(self.__name__), *self.__dict__})


def module_at(path: str) -> ModuleType:
    """Return the module that answers for ``path``, e.g. ``pyro.infer``, making it at first use.

    :raises ImportError: if no module of ember answers for it.
    """
    module = _modules.get(path)
    if module is None:
        if not is_module(path):
            raise ImportError(_not_part(path), name=path)
        module = _modules[path] = PyroModulePath(path)
    return module


def below_package(package: str, name: str) -> Any:
    """Return what Pyro calls ``name`` in a package of ember that does not have it: a module, or an object.

    :raises ImportError: if ember has no such thing.
    """
    path = ROOT + f"{package}.{name}"[len("ember") :]
    below = path[len(ROOT) + 1 :]
    objects = [_load(target) for target in TABLE.get(below, ()) if ":" in target]
    if objects:
        return objects[0]
    if _exists(f"ember.{below}"):
        return importlib.import_module(f"ember.{below}")
    return module_at(path)


def is_module(path: str) -> bool:
    """Whether some module of ember answers for ``path``."""
    if path == ROOT:
        return True
    if any(_load(target) is not None for target in _targets(path)):
        return True
    # A path may also be there for the sake of single objects below it.
    below = path[len(ROOT) + 1 :] + "."
    return any(
        ":" in target and _load(target) is not None
        for key, targets in TABLE.items()
        if key.startswith(below)
        for target in targets
    )


def forget() -> None:
    """Drop all modules that were made, so that the next ones look everything up again."""
    _modules.clear()


_modules: dict[str, PyroModulePath] = {}


def _targets(path: str) -> tuple[str, ...]:
    below = path[len(ROOT) + 1 :]
    own = f"ember.{below}" if below else "ember"
    return (own, *TABLE.get(below, ()))


def _look_up(path: str, name: str) -> Any:
    below = f"{path}.{name}"[len(ROOT) + 1 :]
    for target in TABLE.get(below, ()):
        if ":" in target:
            value = _load(target)
            if value is not None:
                return value
    for target in _targets(path):
        module = _load(target)
        value = getattr(module, name, _ABSENT) if isinstance(module, ModuleType) else _ABSENT
        if isinstance(value, ModuleType) and value.__name__.startswith("ember."):
            break  # the module of that name answers through its own path
        if value is not _ABSENT:
            return value
    if is_module(f"{path}.{name}"):
        return (
            importlib.import_module(f"{path}.{name}") if path in sys.modules else module_at(f"{path}.{name}")
        )
    return _ABSENT


def _load(target: str) -> Any:
    """Return the module or object that a target names, or None if ember does not have it."""
    module_name, _, name = target.partition(":")
    if module_name not in sys.modules and not _exists(module_name):
        return None
    module = importlib.import_module(module_name)
    return getattr(module, name, None) if name else module


def _exists(module_name: str) -> bool:
    parent, _, _ = module_name.rpartition(".")
    if parent and parent not in sys.modules and not _exists(parent):
        return False
    try:
        return importlib.util.find_spec(module_name) is not None
    except ModuleNotFoundError as error:
        # The parent is a module, not a package: nothing lies below it.
        if error.name is not None and module_name.startswith(error.name):
            return False
        raise


def _public_names(path: str) -> list[str]:
    names: set[str] = set()
    for target in _targets(path):
        module = _load(target)
        if isinstance(module, ModuleType):
            public = getattr(module, "__all__", None)
            if public is None:  # what the module imported for itself is not meant
                public = (
                    name
                    for name, value in vars(module).items()
                    if not name.startswith("_") and not isinstance(value, ModuleType)
                )
            names.update(public)
    return sorted(names)


def _not_part(path: str) -> str:
    return f"{path} is not part of this version of ember (ember answers for Pyro's names; see ember.compat)"
