"""Remember what mappings, lists, tensors and attributes hold; say which changed, and put it back."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

_ABSENT = object()
SCALARS = (int, float, complex, str, bytes, bool, type(None))

Check = Callable[[], bool]


class Watches:
    """Values to compare with what they were; most comparisons are done many at a time, since they recur."""

    def __init__(self) -> None:
        self._entries: list[_Entries] = []
        self._mappings: list[tuple[dict[Any, Any], dict[Any, Any]]] = []  # with all they had
        self._lists: list[tuple[Any, list[Any], str]] = []
        self._checks: list[tuple[Check, str]] = []
        self._undo: list[Callable[[], None]] = []
        self._containers: list[Any] = []
        self._container_names: list[str] = []
        self._lengths: list[int] = []
        self._tensors: list[torch.Tensor] = []
        self._tensor_names: list[str] = []
        self._versions: list[tuple[int, bool]] = []

    def entries(self, mapping: Mapping[Any, Any], names: dict[Any, str]) -> None:
        """Watch what a mapping has under some keys, each with a name to report."""
        if names:
            self._entries.append(_Entries(mapping, names))

    def length(self, container: Any, name: str) -> None:
        """Watch the length of a container."""
        self._containers.append(container)
        self._container_names.append(name)
        self._lengths.append(len(container))

    def items(self, container: Any, name: str) -> None:
        """Watch the items of a list, set or deque."""
        self.length(container, name)
        self._lists.append((container, list(container), name))

    def keep(self, mapping: dict[Any, Any]) -> None:
        """Restore a mapping to all that it has now, without watching it."""
        self._mappings.append((mapping, dict(mapping)))

    def tensor(self, tensor: torch.Tensor, name: str) -> None:
        """Watch a tensor by its version counter."""
        self._tensors.append(tensor)
        self._tensor_names.append(name)
        self._versions.append((tensor._version, tensor.requires_grad))

    def release(self, tensors: Iterable[torch.Tensor]) -> None:
        """Watch some tensors no more."""
        released = {id(tensor) for tensor in tensors}
        kept = [place for place, tensor in enumerate(self._tensors) if id(tensor) not in released]
        self._tensors = [self._tensors[place] for place in kept]
        self._tensor_names = [self._tensor_names[place] for place in kept]
        self._versions = [self._versions[place] for place in kept]

    def check(self, holds: Check, name: str, put_back: Callable[[], None] | None = None) -> None:
        """Watch something by a function that says whether it is as it was; another may put it back."""
        self._checks.append((holds, name))
        if put_back is not None:
            self._undo.append(put_back)

    def change(self) -> str | None:
        """Return the name of something that is different now, or None."""
        for entries in self._entries:
            changed = entries.change()
            if changed is not None:
                return changed
        lengths = list(map(len, self._containers))
        if lengths != self._lengths:
            return _first_difference(self._container_names, lengths, self._lengths)
        versions = [(tensor._version, tensor.requires_grad) for tensor in self._tensors]
        if versions != self._versions:
            return _first_difference(self._tensor_names, versions, self._versions)
        for items, kept, name in self._lists:
            if not all(map(same, items, kept)):
                return name
        return next((name for holds, name in self._checks if not holds()), None)

    def restore(self) -> None:
        """Put everything back, except what is inside tensors and arrays."""
        for put_back in self._undo:
            put_back()
        for entries in self._entries:
            entries.restore()
        for items, kept, _ in self._lists:
            if len(items) != len(kept) or not all(map(operator.is_, items, kept)):
                items.clear()
                (items.update if isinstance(items, set) else items.extend)(kept)
        for mapping, before in self._mappings:
            for key in mapping.keys() - before.keys():
                del mapping[key]
            mapping.update((key, value) for key, value in before.items() if mapping.get(key) is not value)


def _first_difference(names: list[str], found: list[Any], expected: list[Any]) -> str:
    return next(name for name, a, b in zip(names, found, expected, strict=True) if a != b)


class _Entries:
    """Entries of one mapping, compared all at once."""

    __slots__ = ("_get", "_keys", "_mapping", "_names", "_values")

    def __init__(self, mapping: Mapping[Any, Any], names: dict[Any, str]) -> None:
        self._mapping = mapping
        self._keys = tuple(names)
        self._names = tuple(names.values())
        self._values = tuple(mapping[key] for key in self._keys)
        # An itemgetter of one key would not return a tuple.
        self._get = operator.itemgetter(*self._keys, self._keys[0])

    def change(self) -> str | None:
        try:
            if all(map(operator.is_, self._get(self._mapping), self._values)):
                return None
        except KeyError:
            pass  # found below
        for key, name, expected in zip(self._keys, self._names, self._values, strict=True):
            found = self._mapping.get(key, _ABSENT)
            if not same(found, expected):
                return name
        return None

    def restore(self) -> None:
        if isinstance(self._mapping, dict):
            self._mapping.update(zip(self._keys, self._values, strict=True))


def same(found: Any, expected: Any) -> bool:
    """Whether two values are one object, or equal numbers or texts of one type."""
    if found is expected:
        return True
    return type(found) is type(expected) and isinstance(found, SCALARS) and bool(found == expected)
