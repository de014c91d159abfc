"""Record while loops as nodes with a condition and a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from ember.engine.program import Value
from ember.engine.recording.frames import Frame
from ember.engine.recording.recorder import DispatchRecorder
from ember.engine.recording.regions import (
    as_tensors,
    blank,
    emit_node,
    emit_undifferentiable,
    finish,
    flatten_tensors,
    merge_outer,
    read_all,
    region,
    region_input,
)


def as_predicate(recorder: DispatchRecorder, result: Any) -> torch.Tensor:
    """Return a truth value as a bool scalar tensor."""
    tensor = as_tensors(recorder, [result], "the condition")[0]
    if tensor is None or tensor.numel() != 1:
        recorder.refuse("the condition of a loop or branch must be one truth value")
    if tensor.dtype != torch.bool:
        tensor = tensor != 0
    return tensor.reshape(()) if tensor.dim() else tensor


class Carry:
    """The carry of a loop: its structure, and its leaves as tensors, with numbers adaptable to their loop."""

    def __init__(self, recorder: DispatchRecorder, init: Any, what: str) -> None:
        self.recorder = recorder
        self.what = what
        leaves, self.structure = tree_flatten(init)
        self.adaptable = [isinstance(leaf, (bool, int, float)) for leaf in leaves]
        self.leaves = as_tensors(recorder, leaves, f"the carry of {what}")

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [leaf for leaf in self.leaves if leaf is not None]

    def nest(self, tensors: list[torch.Tensor]) -> Any:
        """Put tensors in the place of the leaves."""
        remaining = iter(tensors)
        return tree_unflatten(
            [None if leaf is None else next(remaining) for leaf in self.leaves], self.structure
        )

    def inputs(self) -> list[torch.Tensor]:
        """Make an input of the current region for each tensor of the carry."""
        return [region_input(self.recorder, each.shape, each.dtype) for each in self.tensors]

    def check(self, following: Any) -> list[torch.Tensor] | None:
        """Return the tensors of the next carry, or None if a number had to be adapted to them first.

        :raises NotCapturable: if structure, shapes or dtypes differ from the carry's.
        """
        found, structure = flatten_tensors(self.recorder, following, f"the carry of {self.what}")
        if structure != self.structure:
            self.recorder.refuse(
                f"the carry of {self.what} changes its structure from {self.structure} to {structure}"
            )
        adapted = False
        for index, (old, new) in enumerate(zip(self.leaves, found, strict=True)):
            if old is None and new is None:
                continue
            if old is None or new is None or old.shape != new.shape or old.dtype != new.dtype:
                if old is None or new is None or not self.adaptable[index]:
                    self.recorder.refuse(
                        f"leaf {index} of the carry of {self.what} changes from {describe(old)} "
                        f"to {describe(new)}; shapes and dtypes of a carry must stay"
                    )
                self.adaptable[index] = False
                self.leaves[index] = old.to(new.dtype).expand(new.shape)
                adapted = True
        return None if adapted else [each for each in found if each is not None]


def describe(tensor: torch.Tensor | None) -> str:
    """Name a tensor's dtype and shape."""
    return "None" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def record_while_loop(
    recorder: DispatchRecorder, condition: Callable[[Any], Any], body: Callable[[Any], Any], first: Any
) -> Any:
    """Record a while loop, and return its last carry."""
    carry = Carry(recorder, first, "engine.while_loop")
    while True:
        # The body first, since it may adapt numbers in the carry.
        with region(recorder, repeats=True) as body_frame:
            body_inputs = carry.inputs()
            following = body(carry.nest(body_inputs))
            found = carry.check(following)
            if body_frame.counter is not None and found is not None:
                found = [*found, body_frame.counter + 1]
            outputs = read_all(recorder, found or [])
        if found is not None:
            break
    init = carry.tensors
    if body_frame.counter is not None:
        init.append(torch.tensor(0))
    with region(recorder, repeats=True) as condition_frame:
        condition_inputs = carry.inputs()
        if body_frame.counter is not None:
            region_input(recorder, (), torch.int64)
        holds = as_predicate(recorder, condition(carry.nest(condition_inputs)))
        holds_value = read_all(recorder, [holds])
    if condition_frame.counter is not None:
        recorder.refuse("the condition of engine.while_loop draws; draw in its body, and carry the number")
    outer = merge_outer([condition_frame, body_frame])

    def emit() -> list[torch.Tensor]:
        regions = (
            finish(condition_frame, _values(condition_frame), outer, holds_value),
            finish(body_frame, _values(body_frame), outer, outputs),
        )
        results = [blank(each.shape, each.dtype) for each in init]
        args = (tuple(read_all(recorder, init)), tuple(map(recorder.localise, outer)))
        values = emit_node(recorder, "while_loop", args, regions, results)
        return [recorder.wrap(value, each) for value, each in zip(values, results, strict=True)]

    sources = [*carry.tensors, *condition_frame.closed.values(), *body_frame.closed.values()]
    reason = "a gradient through engine.while_loop; use engine.scan, whose number of steps is fixed"
    return carry.nest(emit_undifferentiable(recorder, reason, emit, sources))


def _values(frame: Frame) -> list[Value]:
    return list(frame.inputs)
