"""Record scans as nodes with one region, and their gradients as reverse scans of constant size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_unflatten

from ember.engine.copying import copy_program
from ember.engine.dead_code import eliminate_dead_code
from ember.engine.program import Program, Value
from ember.engine.recorder import DispatchRecorder, Frame
from ember.engine.regions import (
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
from ember.engine.while_loops import Carry


@dataclass
class _Backward:
    """The region that turns gradients of one step's results into those of its arguments."""

    program: Program
    carry: list[int]  # which carries have a gradient
    ys: list[int]  # which ys have one
    xs: list[int]
    closed: list[torch.Tensor]  # tensors of the parent frame that have one


@dataclass
class _Scan:
    """A recorded step, and how often and over what it runs."""

    recorder: DispatchRecorder
    length: int
    reverse: bool
    forward: Program
    outer: list[Value]
    backward: _Backward | None
    slipped: bool
    init: list[torch.Tensor]
    xs: list[torch.Tensor]
    ys: list[tuple[tuple[int, ...], torch.dtype]]
    saved: tuple[Value, ...] = ()  # the carries that went into each step, then the xs

    def emit(self) -> list[torch.Tensor]:
        """Emit the node; return the last carry and the stacked ys."""
        recorder = self.recorder
        carries = [blank(each.shape, each.dtype) for each in self.init]
        ys = [blank((self.length, *shape), dtype) for shape, dtype in self.ys]
        kept = [blank((self.length, *each.shape), each.dtype) for each in self.init] if self.backward else []
        init, xs = read_all(recorder, self.init), read_all(recorder, self.xs)
        values = emit_node(
            recorder,
            "scan",
            (tuple(init), tuple(xs), tuple(map(recorder.localise, self.outer))),
            (self.forward,),
            [*carries, *ys, *kept],
            {"length": self.length, "reverse": self.reverse, "num_carry": len(init)},
        )
        self.saved = (*values[len(carries) + len(ys) :], *xs)
        return [recorder.wrap(value, each) for value, each in zip(values, [*carries, *ys], strict=False)]

    def emit_gradients(self, gradients: tuple[torch.Tensor | None, ...]) -> list[torch.Tensor]:
        """Emit the reverse scan; return gradients of the differentiable carries, xs and closed-over tensors."""
        recorder, backward = self.recorder, self.backward
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
            shape, dtype = self.ys[index]
            ys.append(given(len(self.init) + index, (self.length, *shape), dtype))
        xs_values = [recorder.localise(value) for value in self.saved] + read_all(recorder, ys)
        results = [blank(each.shape, each.dtype) for each in carry]
        results += [blank(self.xs[index].shape, self.xs[index].dtype) for index in backward.xs]
        values = emit_node(
            recorder,
            "scan",
            (tuple(read_all(recorder, carry)), tuple(xs_values), tuple(map(recorder.localise, self.outer))),
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
        backward = scan.backward
        if scan.slipped or backward is None:
            scan.recorder.refuse("a custom autograd function inside engine.scan uses a tensor from outside")
        reason = "a second derivative through engine.scan"
        sources = [*scan.init, *scan.xs, *backward.closed, *(each for each in gradients if each is not None)]
        found = emit_undifferentiable(
            scan.recorder, reason, lambda: scan.emit_gradients(gradients), sources
        )
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
        attempt = _Attempt(recorder, carry, sequences, xs_structure, differentiable, enabled)
        with region(recorder, differentiable=enabled) as frame:
            complete = attempt.run(step, frame)
        if not complete:
            continue
        if frame.leaves and not differentiable:
            # Only now is it known that the step depends on a tensor that requires a gradient.
            differentiable = True
            continue
        break
    scan = attempt.finish(frame, length, reverse)
    if scan.backward is None and not scan.slipped:
        results = scan.emit()
    else:
        closed = scan.backward.closed if scan.backward else list(frame.closed.values())
        results = list(_DifferentiableScan.apply(scan, *scan.init, *scan.xs, *closed))
    count = len(scan.init)
    remaining = iter(results[count:])
    ys = [None if each is None else next(remaining) for each in attempt.ys]
    return carry.nest(results[:count]), tree_unflatten(ys, attempt.ys_structure)


class _Attempt:
    """One recording of a scan's step, with its gradient if there may be one."""

    def __init__(
        self,
        recorder: DispatchRecorder,
        carry: Carry,
        sequences: list[torch.Tensor | None],
        xs_structure: Any,
        differentiable: bool,
        enabled: bool,
    ) -> None:
        self.recorder = recorder
        self.carry = carry
        self.sequences = sequences
        self.xs_structure = xs_structure
        self.differentiable = differentiable
        self.ys: list[torch.Tensor | None] = []
        self.ys_structure: Any = None

    def run(self, step: Callable[[Any, Any], tuple[Any, Any]], frame: Frame) -> bool:
        """Record the step in the current region; return False if a number in the carry was adapted."""
        recorder = self.recorder
        self.carry_in = self.carry.inputs()
        self.xs_in = [
            None if each is None else region_input(recorder, each.shape[1:], each.dtype)
            for each in self.sequences
        ]
        if self.differentiable:
            for leaf in self.carry_in:
                if leaf.is_floating_point():
                    leaf.requires_grad_()
            for x, sequence in zip(self.xs_in, self.sequences, strict=True):
                if x is not None and sequence is not None and sequence.requires_grad:
                    x.requires_grad_()
        result = step(self.carry.nest(self.carry_in), tree_unflatten(self.xs_in, self.xs_structure))
        if not isinstance(result, tuple) or len(result) != 2:
            recorder.refuse("the step of engine.scan must return (carry, y)")
        following = self.carry.check(result[0])
        if following is None:
            return False
        self.following = following
        self.ys, self.ys_structure = flatten_tensors(recorder, result[1], "the result of engine.scan's step")
        self.results = following + [each for each in self.ys if each is not None]
        self.forward_outputs = read_all(recorder, [*self.results, *self.carry_in])
        self.num_forward = len(frame.nodes)
        self.backward_outputs: list[Value] | None = None
        if self.differentiable:
            self._record_gradients(frame)
        return True

    def _record_gradients(self, frame: Frame) -> None:
        recorder, count = self.recorder, len(self.carry_in)
        leaves = [leaf for _, leaf in frame.leaves.values()]
        xs = [x for x in self.xs_in if x is not None]
        inputs = [each for each in [*self.carry_in, *xs, *leaves] if each.requires_grad]
        live = [index for index, each in enumerate(self.results) if each.requires_grad]
        self.incoming = {
            index: region_input(recorder, self.results[index].shape, self.results[index].dtype)
            for index in live
        }
        self.live_ys = [index - count for index in live if index >= count]
        found: list[torch.Tensor | None] = [None] * len(inputs)
        if live and inputs:
            found = list(
                torch.autograd.grad(
                    [self.results[index] for index in live],
                    inputs,
                    [self.incoming[index] for index in live],
                    allow_unused=True,
                )
            )
        by_input = {id(each): gradient for each, gradient in zip(inputs, found, strict=True)}
        with torch.no_grad():
            self.carry_index = [index for index, each in enumerate(self.carry_in) if each.requires_grad]
            outputs = [
                _or_zeros(by_input[id(self.carry_in[index])], self.carry_in[index])
                for index in self.carry_index
            ]
            self.closed = []
            self.sums = []
            for original, leaf in frame.leaves.values():
                gradient = by_input[id(leaf)]
                if gradient is not None:
                    total = region_input(recorder, leaf.shape, leaf.dtype)
                    self.closed.append(original)
                    self.sums.append(total)
                    outputs.append(total + gradient)
            self.xs_index = [index for index, x in enumerate(xs) if x.requires_grad]
            outputs += [_or_zeros(by_input[id(xs[index])], xs[index]) for index in self.xs_index]
            self.backward_outputs = read_all(recorder, outputs)

    def finish(self, frame: Frame, length: int, reverse: bool) -> _Scan:
        """Make the regions from what was recorded."""
        recorder = self.recorder
        outer = merge_outer([frame])
        carry_in = [_input_value(each) for each in self.carry_in]
        xs_in = [_input_value(each) for each in self.xs_in if each is not None]
        count, backward = len(self.results), None
        slipped = any(
            identity not in {id(leaf) for _, leaf in frame.leaves.values()} for identity in frame.closed
        )
        if self.backward_outputs is not None:
            incoming = {index: _input_value(each) for index, each in self.incoming.items()}
            inputs = []
            for index in self.carry_index:
                like = self.carry_in[index]
                inputs.append(incoming.get(index) or Value(tuple(like.shape), like.dtype))
            inputs += [_input_value(each) for each in self.sums]
            inputs += carry_in + xs_in + [incoming[index + len(carry_in)] for index in self.live_ys]
            program = eliminate_dead_code(finish(frame, inputs, outer, self.backward_outputs))
            backward = _Backward(program, self.carry_index, self.live_ys, self.xs_index, self.closed)
        else:
            count = len(self.results)
        nodes = frame.nodes[: self.num_forward]
        outputs = self.forward_outputs if backward else self.forward_outputs[:count]
        whole = finish(frame, carry_in + xs_in, outer, outputs)
        forward = eliminate_dead_code(Program(whole.inputs, whole.constants, nodes, whole.outputs))
        return _Scan(
            recorder,
            length,
            reverse,
            forward,
            outer,
            backward,
            slipped,
            self.carry.tensors,
            [each for each in self.sequences if each is not None],
            [(tuple(each.shape), each.dtype) for each in self.ys if each is not None],
        )


def _or_zeros(gradient: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(like.shape, dtype=like.dtype) if gradient is None else gradient


def _input_value(tensor: Any) -> Value:
    return tensor.view_of.storage.value
