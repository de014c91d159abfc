"""Run torch's optimisers without the wrappers that import torch's compiler."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch

_FUSED = ("Adam", "AdamW", "SGD", "Adagrad")


@functools.cache
def lean(optimizer_class: Any) -> Any:
    """Return a subclass with the same update rule, whose methods are the functions inside torch's wrappers.

    The wrappers only matter under ``torch.compile``, but they import the compiler (over a second) when an
    optimiser is made, and cost more than a small update does.
    """
    update = inspect.unwrap(optimizer_class.step)

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return update(self, *args, **kwargs)

    step.hooked = True  # type: ignore[attr-defined]  # says to torch that it need not wrap this one
    methods: dict[str, Any] = {"step": step, "__module__": optimizer_class.__module__}
    for name in ("add_param_group", "state_dict", "load_state_dict"):
        methods[name] = inspect.unwrap(getattr(optimizer_class, name))
    return type(optimizer_class.__name__, (optimizer_class,), methods)


def fastest_form(optimizer_class: Any, options: dict[str, Any], param: torch.Tensor) -> dict[str, Any]:
    """Ask for torch's fused update where there is one for this parameter and the user chose no other form."""
    chosen = {"fused", "foreach", "capturable", "differentiable"} & set(options)
    if (
        optimizer_class not in [getattr(torch.optim, name) for name in _FUSED]
        or chosen
        or param.device.type != "cpu"
        or param.dtype not in (torch.float32, torch.float64)
        or isinstance(options.get("lr"), torch.Tensor)
        or (param.grad is not None and param.grad.is_sparse)
    ):
        return options
    return {**options, "fused": True}
