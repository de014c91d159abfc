"""Make ``import pyro`` and everything below it find ember's objects."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

from ember.compat.facade import ROOT, PyroModulePath, forget, is_module, module_at
from ember.errors import message


class PyroFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find ``pyro`` and its modules; refuse, by name, what ember does not have."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a module below ``pyro``, None for any other module.

        :raises ImportError: for a module below ``pyro`` that ember does not have.
        """
        if fullname != ROOT and not fullname.startswith(ROOT + "."):
            return None
        if not is_module(fullname):
            raise ImportError(
                f"{fullname} is not part of this version of ember, which answers for Pyro's modules "
                "since ember.compat.install() was called",
                name=fullname,
            )
        return importlib.machinery.ModuleSpec(fullname, self, origin="ember.compat", is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module object of ``spec``."""
        return module_at(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the names of the module are looked up when they are asked for."""


_finder = PyroFinder()


def install() -> None:
    """Make ``import pyro``, ``from pyro.infer import …`` and so on resolve to ember's own objects.

    Calling it twice does nothing more. Other processes are not affected.

    :raises RuntimeError: if the real Pyro has been imported in this process.

    >>> import ember.compat
    >>> ember.compat.install()
    >>> import pyro.distributions as dist
    >>> dist.Normal is ember.distributions.Normal
    True
    >>> ember.compat.uninstall()
    """
    present = sys.modules.get(ROOT)
    if present is not None and not isinstance(present, PyroModulePath):
        raise RuntimeError(
            message(
                "ember cannot answer for 'pyro': another package of that name has been imported already",
                expected="no module 'pyro' in this process",
                actual=f"{getattr(present, '__file__', None) or present!r}",
                fix="call ember.compat.install() before the first import of pyro, "
                "or run the program with python -m ember.compat",
            )
        )
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def uninstall() -> None:
    """Undo :func:`install`; modules that programs hold keep working."""
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    for name in [name for name, module in sys.modules.items() if isinstance(module, PyroModulePath)]:
        del sys.modules[name]
    forget()
