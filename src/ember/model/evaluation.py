"""Set the scene for evaluations of a density: double precision, no validation, constants promoted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from ember import settings

_FLAGS = ("validate_distributions_pyro", "validate_infer", "validate_poutine")


# The default dtype and torch's validation are the process's, so threads take turns; the same one may nest.
_turn = threading.RLock()


def _renew_turn() -> None:
    global _turn
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    # A thread that held it does not exist in the child.
    os.register_at_fork(after_in_child=_renew_turn)


class double_precision:
    """Make float64 the default dtype inside a ``with`` block, and switch validation off unless ``validate``.

    One thread at a time is inside, since the default dtype is the process's.

    :param promote: raise float32 arguments of every torch function to float64 as well, for models that mix
        float32 tensors of their own with values in operations that do not promote, such as matrix products.
    """

    __slots__ = ("_before", "_contexts", "_held", "_promote", "_validate")

    def __init__(self, promote: bool = False, validate: bool = False) -> None:
        self._promote = promote
        self._validate = validate

    def __enter__(self) -> None:
        self._held = _turn
        self._held.acquire()
        self._before = torch.get_default_dtype()
        self._contexts: list[Any] = [] if self._validate else _validation_off()
        if self._promote:
            self._contexts.append(PromoteToDouble())
        torch.set_default_dtype(torch.float64)
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *exception: Any) -> None:
        try:
            for context in reversed(self._contexts):
                context.__exit__(*exception)
            torch.set_default_dtype(self._before)
        finally:
            self._held.release()


def _validation_off() -> list[Any]:
    """Return the contexts that switch off what validation is on: none, mostly, as they cost time."""
    raised = [flag for flag in _FLAGS if settings.read(flag)]
    if torch.distributions.Distribution._validate_args:
        raised.append("validate_distributions_torch")
    return [settings.context(**dict.fromkeys(raised, False))] if raised else []


class PromoteToDouble(TorchFunctionMode):
    """Raise float32 arguments of torch functions to float64."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        # Attributes have nothing to promote, and in-place operations keep the dtype of what they change.
        if name in ("__get__", "__set__", "__setitem__") or (name.endswith("_") and not name.endswith("__")):
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(to_double, (args, kwargs or {}))
        return func(*args, **kwargs)


def to_double(leaf: Any) -> Any:
    """Return float32 and half tensors as float64, and everything else as it is."""
    if isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.float32, torch.float16, torch.bfloat16):
        return leaf.to(torch.float64)
    return leaf
