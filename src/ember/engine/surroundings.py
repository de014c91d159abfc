"""Watch the Python values that functions can reach, since a capture of the functions may have baked them in.

A captured program does what the functions did with the values around them: globals, closures, defaults,
attributes of objects, contents of containers. :class:`Surroundings` remembers all of these, and says which
one is another now, by comparing identities, numbers, strings, and the version counters of tensors; after a
capture it can put back what the functions have changed. A class can name attributes that each call of its
objects makes anew, in ``_transient_attributes``.
"""

from __future__ import annotations

import enum
import functools
import os
import sys
import sysconfig
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from ember.engine.recording.refusal import NotCapturable
from ember.engine.watches import SCALARS, Watches, same
from ember.errors import _PACKAGE

_FIXED = (
    *SCALARS, torch.dtype, torch.device, torch.layout, torch.memory_format, type(Ellipsis), range, slice,
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType,
    types.MethodWrapperType, types.ClassMethodDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, types.MappingProxyType, types.GenericAlias, types.CodeType, enum.Enum,
    weakref.ReferenceType,
)  # fmt: skip
_LIBRARIES = tuple(
    {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
# Where objects without attributes come from that hold nothing a function would compute with.
_HARMLESS_MODULES = (
    "builtins",
    "torch",
    "re",
    "functools",
    "operator",
    "itertools",
    "typing",
    "_thread",
    "_abc",
)
_CACHES = ("_cached_x_y", "_cached_logDetJ", "_cached_log_df_dx")  # of transforms: last arguments and results
_MOST = 50_000  # values watched
_ARRAY_BYTES = 1 << 20  # largest NumPy array whose contents are compared
_ABSENT = object()


class Surroundings:
    """What some functions and objects can reach, as it is now.

    :param roots: functions, modules and other objects.
    :param apart: tensors that need no watching, since programs read them anew each time.
    :raises NotCapturable: if they reach a value that can change unseen, such as a generator, or too many.
    """

    def __init__(self, roots: Iterable[Any], apart: Iterable[torch.Tensor] = ()) -> None:
        self._apart = {id(tensor) for tensor in apart}
        self._seen: dict[int, Any] = {}  # keeps what was seen alive, so that identities stay unique
        self._watches = Watches()
        self.modules: list[torch.nn.Module] = []  # among what was seen
        self._waiting: deque[tuple[Any, str]] = deque((root, _name(root)) for root in roots)
        while self._waiting:
            self._visit(*self._waiting.popleft())

    def change(self) -> str | None:
        """Return the name of a value that is another now, or None."""
        return self._watches.change()

    def restore(self) -> None:
        """Put back what a call of the functions has changed, except inside tensors and arrays."""
        self._watches.restore()

    def release(self, tensors: Iterable[torch.Tensor]) -> None:
        """Watch some tensors no more, since programs read and write them themselves."""
        self._watches.release(tensors)

    # -- walking -------------------------------------------------------------------------------------------

    def _visit(self, value: Any, name: str) -> None:
        if isinstance(value, _FIXED) or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if len(self._seen) > _MOST:
            raise NotCapturable(f"'{name}' is one of too many Python values to watch for changes")
        if isinstance(value, torch.Tensor):
            self._watch_tensor(value, name)
        elif isinstance(value, types.FunctionType):
            self._enter_function(value, name)
        elif isinstance(value, types.MethodType):
            self._waiting.extend(((value.__self__, name), (value.__func__, name)))
        elif isinstance(value, functools.partial):
            self._waiting.extend((part, name) for part in (value.func, value.args, value.keywords))
        elif isinstance(value, types.ModuleType):
            pass  # its names are watched where functions use them
        elif isinstance(value, type):
            self._enter_class(value)
        elif isinstance(value, (staticmethod, classmethod)):
            self._waiting.append((value.__func__, name))
        elif isinstance(value, property):
            self._waiting.extend((part, name) for part in (value.fget, value.fset))
        elif isinstance(value, dict):
            self._watch_entries(value, name)
        elif isinstance(value, (list, tuple, set, frozenset, deque)):
            self._watch_items(value, name)
        elif type(value).__module__.partition(".")[0] == "numpy":
            self._watch_array(value, name)
        else:
            self._enter_object(value, name)

    def _watch(self, mapping: Mapping[Any, Any], keys: Iterable[Any], form: str) -> None:
        """Watch what a mapping has under some keys; ``form`` makes names of them."""
        names = {key: form.format(key) for key in keys}
        self._watches.entries(mapping, names)
        self._waiting.extend((mapping[key], name) for key, name in names.items())

    def _watch_tensor(self, tensor: torch.Tensor, name: str) -> None:
        if id(tensor) in self._apart:
            return
        self._watches.tensor(tensor, name)
        self._waiting.extend((each, f"{name}.{key}") for key, each in vars(tensor).items())

    def _watch_entries(self, mapping: dict[Any, Any], name: str) -> None:
        self._watches.length(mapping, name)
        self._watches.keep(mapping)
        self._watch(mapping, list(mapping), f"{_plain(name)}[{{0!r}}]")

    def _watch_items(self, items: Any, name: str) -> None:
        kept = list(items)
        if not isinstance(items, (tuple, frozenset)):
            self._watches.items(items, name)
        self._waiting.extend((each, f"{name}[…]") for each in kept if not isinstance(each, SCALARS))

    def _watch_array(self, array: Any, name: str) -> None:
        if not hasattr(array, "tobytes"):
            return  # functions, dtypes
        if array.nbytes > _ARRAY_BYTES or array.dtype.hasobject:
            raise NotCapturable(f"'{name}' is a NumPy array that may change unseen; make it a tensor")
        contents = array.tobytes()
        self._watches.check(lambda: array.tobytes() == contents, name)

    def _enter_function(self, function: types.FunctionType, name: str) -> None:
        self._waiting.extend((each, name) for each in vars(function).values())  # such as __wrapped__
        for cell_name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._watch_cell(cell, cell_name)
        if _is_library(function.__code__.co_filename):
            return
        self._waiting.extend((each, name) for each in function.__defaults__ or ())
        self._waiting.extend((each, name) for each in (function.__kwdefaults__ or {}).values())
        names = set(_names(function.__code__))
        self._watch(function.__globals__, sorted(names & function.__globals__.keys()), "{}")
        for key in names & function.__globals__.keys():
            value = function.__globals__[key]
            if isinstance(value, types.ModuleType) and not _is_library(getattr(value, "__file__", None)):
                self._watch(vars(value), sorted(names & vars(value).keys()), f"{key}.{{}}")

    def _watch_cell(self, cell: types.CellType, name: str) -> None:
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            return

        def put_back() -> None:
            cell.cell_contents = value

        self._watches.check(lambda: same(cell.cell_contents, value), name, put_back)
        self._waiting.append((value, name))

    def _enter_class(self, cls: type) -> None:
        for each in cls.__mro__:
            module = sys.modules.get(each.__module__)
            if module is None or _is_library(getattr(module, "__file__", None)):
                continue
            keys = [
                key
                for key in vars(each)
                if not (key.startswith("__") and key.endswith("__")) or key in ("__call__", "__init__")
            ]
            self._watch(vars(each), keys, f"{each.__name__}.{{}}")

    def _enter_object(self, value: Any, name: str) -> None:
        if type(value).__name__ == "Trace" or isinstance(value, torch.autograd.graph.Node):
            return
        if isinstance(value, torch.nn.Module):
            self.modules.append(value)
        if hasattr(value, "__next__"):
            raise NotCapturable(f"'{name}' is a {type(value).__name__}, which gives other values each time")
        attributes = getattr(value, "__dict__", None)
        slots = [key for cls in type(value).__mro__ for key in _slots_of(cls)]
        library = type(value).__module__.partition(".")[0]
        if attributes is None and not slots and library not in _HARMLESS_MODULES:
            raise NotCapturable(f"'{name}' is a {type(value).__name__}, which may change unseen")
        if attributes is not None:
            self._watches.keep(attributes)
            keys = attributes.keys() - set(getattr(type(value), "_transient_attributes", _CACHES))
            self._watch(attributes, sorted(keys, key=str), f"{_plain(name)}.{{}}")
        for key in slots:
            if hasattr(value, key):
                self._watch_attribute(value, key, f"{name}.{key}")
        self._waiting.append((type(value), name))

    def _watch_attribute(self, value: Any, key: str, name: str) -> None:
        expected = getattr(value, key)

        def put_back() -> None:
            # Frozen classes have nothing that a call could have changed.
            if not same(getattr(value, key, _ABSENT), expected):
                setattr(value, key, expected)

        self._watches.check(lambda: same(getattr(value, key, _ABSENT), expected), name, put_back)
        self._waiting.append((expected, name))


def _plain(name: str) -> str:
    """Return a name that ``str.format`` leaves as it is."""
    return name.replace("{", "{{").replace("}", "}}")


def _name(root: Any) -> str:
    while isinstance(root, functools.partial):
        root = root.func
    return str(getattr(root, "__name__", type(root).__name__))


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the global and attribute names in a function's code, and in the functions that it makes."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _slots_of(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


@functools.cache
def _is_library(file: str | None) -> bool:
    """Whether code of this file is a library's, whose globals hold no state of the user's."""
    if file is None or file.startswith("<"):
        return file is None or file.startswith("<frozen")
    return file.startswith(_PACKAGE) or os.path.realpath(file).startswith(_LIBRARIES)
