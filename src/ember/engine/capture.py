"""Capture a function of tensors as a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from ember.engine.program import Program
from ember.engine.recorder import DispatchRecorder, current_site


@contextmanager
def recording_site(name: str | None) -> Iterator[None]:
    """Attribute the operations captured inside the ``with`` block, and their gradients, to a sample site."""
    token = current_site.set(name)
    try:
        yield
    finally:
        current_site.reset(token)


def capture(fn: Callable[..., Any], *inputs: torch.Tensor, where: bool = True) -> Program:
    """Run ``fn`` once on stand-ins for the inputs, and return what it does as a program.

    :param fn: function of tensors that returns a tensor or a nest of tensors.
    :param inputs: example inputs; only their shapes, dtypes and strides count.
    :param where: record the user's file and line with each operation.
    :raises NotCapturable: if the function does what a program cannot say.
    """
    recorder = DispatchRecorder(where)
    stand_ins = [recorder.new_input(each) for each in inputs]
    for stand_in, each in zip(stand_ins, inputs, strict=True):
        if each.requires_grad:
            stand_in.requires_grad_()
    with recorder:
        result = fn(*stand_ins)
        outputs = [recorder.symbolic(leaf) for leaf in tree_flatten(result)[0]]
    if recorder.failure is not None:
        raise recorder.failure
    return recorder.frame.program(outputs)
