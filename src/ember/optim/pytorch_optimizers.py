"""Offer every torch optimiser and scheduler by name, in the calling form of the language."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import lr_scheduler

from ember.optim.lr_scheduler import PyroLRScheduler
from ember.optim.optim import Options, PyroOptim


def _form(adapter: type[PyroOptim], torch_class: Any) -> Callable[..., PyroOptim]:
    """Make the function ``Name(optim_args, clip_args=None)`` for a class of torch."""

    @functools.wraps(torch_class, updated=())
    def make(optim_args: Options, clip_args: Options | None = None) -> PyroOptim:
        return adapter(torch_class, optim_args, clip_args)

    make.__doc__ = f"``torch.optim``'s {torch_class.__name__} as a :class:`{adapter.__name__}`."
    del make.__wrapped__  # the signature is ours, not the class's
    return make


def _classes(namespace: Any, base: type, leave_out: tuple[str, ...]) -> dict[str, type]:
    return {
        name: value
        for name, value in vars(namespace).items()
        if isinstance(value, type) and issubclass(value, base) and name not in leave_out and name[0].isupper()
    }


# LBFGS evaluates the loss many times in a step, which a single gradient cannot serve.
optimizers: dict[str, Callable[..., PyroOptim]] = {
    name: _form(PyroOptim, cls)
    for name, cls in _classes(torch.optim, torch.optim.Optimizer, ("Optimizer", "LBFGS")).items()
}
schedulers: dict[str, Callable[..., PyroOptim]] = {
    name: _form(PyroLRScheduler, cls)
    for name, cls in _classes(lr_scheduler, lr_scheduler.LRScheduler, ()).items()
}
globals().update(optimizers)
globals().update(schedulers)
