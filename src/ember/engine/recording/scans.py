"""Record scans as nodes with one region, and their gradients as reverse scans of constant size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_unflatten

from ember.engine.passes.copying import copy_program
from ember.engine.program import Value
from ember.engine.recording.recorder import DispatchRecorder
from ember.engine.recording.regions import (
    blank,
    emit_node,
    emit_undifferentiable,
    flatten_tensors,
    read_all,
    region,
)
from ember.engine.recording.scan_steps import Step, StepRecorder
from ember.engine.recording.while_loops import Carry


@dataclass
class _Scan:
    """A recorded step, and how often and over what it runs."""

    recorder: DispatchRecorder
    length: int
    reverse: bool
    step: Step
    init: list[torch.Tensor]
    xs: list[torch.Tensor]
    saved: tuple[Value, ...] = ()  # the carries that went into each step, then the xs

    def emit(self) -> list[torch.Tensor]:
        """Emit the node; return the last carry and the stacked ys."""
        recorder = self.recorder
        carries = [blank(each.shape, each.dtype) for each in self.init]
        ys = [blank((self.length, *shape), dtype) for shape, dtype in self.step.ys]
        kept = (
            [blank((self.length, *each.shape), each.dtype) for each in self.init]
            if self.step.backward
            else []
        )
        init, xs = read_all(recorder, self.init), read_all(recorder, self.xs)
        values = emit_node(
            recorder,
            "scan",
            (tuple(init), tuple(xs), tuple(map(recorder.localise, self.step.outer))),
            (self.step.forward,),
            [*carries, *ys, *kept],
            {"length": self.length, "reverse": self.reverse, "num_carry": len(init)},
        )
        self.saved = (*values[len(carries) + len(ys) :], *xs)
        return [recorder.wrap(value, each) for value, each in zip(values, [*carries, *ys], strict=False)]

    def emit_gradients(self, gradients: tuple[torch.Tensor | None, ...]) -> list[torch.Tensor]:
        """Emit the reverse scan; return the gradients of carries, closed-over tensors and xs."""
        recorder, backward = self.recorder, self.step.backward
        assert backward is not None

        def given(index: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
            gradient = gradients[index]
            return torch.zeros(shape, dtype=dtype) if gradient is None else gradient

        carry = [
            given(index, tuple(self.init[index].shape), self.init[index].dtype) for index in backward.carry
        ]
        carry += [torch.zeros(each.shape, dtype=each.dtype) for each in backward.closed]
        ys = []
        for index in backward.ys:
            shape, dtype = self.step.ys[index]
            ys.append(given(len(self.init) + index, (self.length, *shape), dtype))
        xs_values = [recorder.localise(value) for value in self.saved] + read_all(recorder, ys)
        results = [blank(each.shape, each.dtype) for each in carry]
        results += [blank(self.xs[index].shape, self.xs[index].dtype) for index in backward.xs]
        values = emit_node(
            recorder,
            "scan",
            (
                tuple(read_all(recorder, carry)),
                tuple(xs_values),
                tuple(map(recorder.localise, self.step.outer)),
            ),
            (copy_program(backward.program),),
            results,
            {"length": self.length, "reverse": not self.reverse, "num_carry": len(carry)},
        )
        return [recorder.wrap(value, each) for value, each in zip(values, results, strict=True)]


class _DifferentiableScan(torch.autograd.Function):
    """Connects a recorded scan to the graph outside."""

    @staticmethod
    def forward(ctx: Any, scan: _Scan, *_: Any) -> Any:
        ctx.scan = scan
        ctx.set_materialize_grads(False)
        results = scan.emit()
        ctx.mark_non_differentiable(*(each for each in results if not each.is_floating_point()))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        scan: _Scan = ctx.scan
        backward = scan.step.backward
        assert backward is not None
        reason = "a second derivative through engine.scan"
        sources = [*scan.init, *scan.xs, *backward.closed, *(each for each in gradients if each is not None)]
        found = emit_undifferentiable(scan.recorder, reason, lambda: scan.emit_gradients(gradients), sources)
        carry, closed = len(backward.carry), len(backward.closed)
        init: list[torch.Tensor | None] = [None] * len(scan.init)
        for index, gradient in zip(backward.carry, found[:carry], strict=True):
            init[index] = gradient
        xs: list[torch.Tensor | None] = [None] * len(scan.xs)
        for index, gradient in zip(backward.xs, found[carry + closed :], strict=True):
            xs[index] = gradient
        return None, *init, *xs, *found[carry : carry + closed]


def record_scan(
    recorder: DispatchRecorder,
    step: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    length: int | None,
    reverse: bool,
) -> tuple[Any, Any]:
    """Record a scan, and return its last carry and stacked ys."""
    if not length:
        raise ValueError("engine.scan needs at least one step, got an empty sequence")
    carry = Carry(recorder, init, "engine.scan")
    sequences, xs_structure = flatten_tensors(recorder, xs, "the sequence of engine.scan")
    enabled = torch.is_grad_enabled()
    differentiable = enabled and (
        recorder.has_live_gradients()
        or any(each is not None and each.requires_grad for each in [*carry.leaves, *sequences])
    )
    while True:
        attempt = StepRecorder(recorder, carry, sequences, xs_structure, differentiable, enabled)
        with region(recorder, differentiable=enabled, repeats=True) as frame:
            complete = attempt.run(step, frame)
        if not complete:
            continue
        if frame.leaves and not differentiable:
            # Only now is it known that the step depends on a tensor that requires a gradient.
            differentiable = True
            continue
        break
    if frame.counter is not None:
        attempt.xs_in.append(frame.counter)
        sequences.append(torch.arange(length))
    recorded = attempt.finish(frame)
    present = [each for each in sequences if each is not None]
    scan = _Scan(recorder, length, reverse, recorded, carry.tensors, present)
    if recorded.backward is None:
        results = scan.emit()
    else:
        closed = recorded.backward.closed
        results = list(_DifferentiableScan.apply(scan, *scan.init, *scan.xs, *closed))
    count = len(scan.init)
    remaining = iter(results[count:])
    ys = [None if each is None else next(remaining) for each in attempt.ys]
    return carry.nest(results[:count]), tree_unflatten(ys, attempt.ys_structure)
