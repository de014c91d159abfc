"""Copy distributions and what they are made of: without gradients, or of another device or dtype."""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform

from .gaussian_algebra.batches import Batched


def detach(obj: Any) -> Any:
    """Return a deep copy whose tensors are cut off from the graph of gradients.

    :param obj: a tensor, distribution, transform, module, or a container of these.
    """
    return _mapped(obj, lambda tensor: tensor.detach(), {})


def deep_to(obj: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a deep copy whose tensors are moved by ``tensor.to(*args, **kwargs)``, with their gradients.

    A dtype is for tensors of real numbers; others keep theirs.

    :param obj: a tensor, distribution, transform, module, or a container of these.
    """

    def move(tensor: Tensor) -> Tensor:
        moved = tensor.to(*args, **kwargs)
        if moved.dtype != tensor.dtype and not tensor.is_floating_point():
            return tensor.to(device=moved.device)
        return moved

    return _mapped(obj, move, {})


def _mapped(obj: Any, change: Callable[[Tensor], Tensor], done: dict[int, Any]) -> Any:
    """Copy an object with other tensors; what is shared inside it stays shared."""
    if id(obj) in done:
        return done[id(obj)]
    new: Any
    if isinstance(obj, Tensor):
        new = change(obj)
        new = torch.nn.Parameter(new.detach()) if isinstance(obj, torch.nn.Parameter) else new
    elif isinstance(obj, dict):
        new = copy.copy(obj)
        done[id(obj)] = new
        new.update({key: _mapped(value, change, done) for key, value in obj.items()})
    elif isinstance(obj, tuple) and hasattr(obj, "_fields"):
        new = type(obj)(*(_mapped(each, change, done) for each in obj))
    elif isinstance(obj, list | tuple | set) and not isinstance(obj, torch.Size):
        new = type(obj)(_mapped(each, change, done) for each in obj)
    elif isinstance(obj, weakref.ref):  # as transforms keep of their inverses, which are made anew
        return None
    elif isinstance(obj, Distribution | Transform | torch.nn.Module | Batched):
        new = object.__new__(type(obj))
        done[id(obj)] = new
        new.__dict__.update({key: _mapped(value, change, done) for key, value in obj.__dict__.items()})
    else:
        return obj
    done[id(obj)] = new
    return new


def weakmethod(function: Callable[..., Any]) -> Any:
    """Let a method, once looked up on an object, not keep that object alive.

    :raises AttributeError: (the method) when it is called after the object is gone.
    """
    return _WeakMethod(function)


class _WeakMethod:
    """Bind a function to weak references."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self._function
        function, reference = self._function, weakref.ref(instance)

        @functools.wraps(function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            alive = reference()
            if alive is None:
                raise AttributeError(f"self was garbage collected before self.{function.__name__} was called")
            return function(alive, *args, **kwargs)

        return bound
