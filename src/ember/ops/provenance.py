"""Carry sets of labels along with tensors through all operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

Nest = TypeVar("Nest")


class ProvenanceTensor(Tensor):
    """A tensor whose results remember the labels of everything that went into them.

    Labels are a conservative account: a result may depend on less, never on more.

    :param data: the tensor.
    :param provenance: a frozenset of labels, not empty (else ``data`` itself is returned).
    """

    _plain: Tensor
    _labels: frozenset[Any]

    def __new__(cls, data: Tensor, provenance: frozenset[Any] = frozenset(), **kwargs: Any) -> Any:
        if not provenance:
            return data
        base, labels = extract_provenance(data)
        result = base.as_subclass(cls)
        result._plain = base
        result._labels = labels | provenance
        return result

    def __repr__(self) -> str:  # type: ignore[override]
        return f"ProvenanceTensor({self._plain!r}, {set(self._labels)!r})"

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        plain_args, labels = extract_provenance(args)
        plain_kwargs, more = extract_provenance(kwargs or {})
        return track_provenance(func(*plain_args, **plain_kwargs), labels | more)


def _map(function: Callable[[Tensor], Any], nest: Any) -> Any:
    """Apply a function to all tensors of nested tuples, lists and dicts."""
    if isinstance(nest, Tensor):
        return function(nest)
    if isinstance(nest, Mapping):
        return type(nest)((key, _map(function, value)) for key, value in nest.items())  # type: ignore[call-arg]
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(_map(function, each) for each in nest))
    if isinstance(nest, tuple | list | set | frozenset):
        return type(nest)(_map(function, each) for each in nest)
    return nest


def track_provenance(x: Nest, provenance: frozenset[Any]) -> Nest:
    """Return the tensor, or nest of tensors, with labels added."""
    return _map(lambda tensor: ProvenanceTensor(tensor, provenance), x)


def extract_provenance(x: Nest) -> tuple[Nest, frozenset[Any]]:
    """Return the plain tensor, or nest of tensors, and all labels that it had."""
    found: set[Any] = set()

    def plain(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, ProvenanceTensor):
            return tensor
        found.update(tensor._labels)
        return tensor._plain

    return _map(plain, x), frozenset(found)


def get_provenance(x: Any) -> frozenset[Any]:
    """Return all labels of a tensor, or of a nest of tensors."""
    return extract_provenance(x)[1]


def detach_provenance(x: Nest) -> Nest:
    """Return the tensor, or nest of tensors, without labels."""
    return extract_provenance(x)[0]
