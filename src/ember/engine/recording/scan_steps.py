"""Record the step of a scan, and with it the step of the scan's gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_unflatten

from ember.engine.passes.dead_code import eliminate_dead_code
from ember.engine.program import Program, Value
from ember.engine.recording.frames import Frame
from ember.engine.recording.recorder import DispatchRecorder
from ember.engine.recording.regions import (
    finish,
    flatten_tensors,
    merge_outer,
    partial_derivatives,
    read_all,
    refuse_hidden_paths,
    region_input,
)
from ember.engine.recording.while_loops import Carry


@dataclass
class Backward:
    """The region that turns gradients of one step's results into those of its arguments."""

    program: Program
    carry: list[int]  # which carries have a gradient
    ys: list[int]  # which ys have one
    xs: list[int]
    closed: list[torch.Tensor]  # tensors of the parent frame that have one


@dataclass
class Step:
    """A recorded step: its regions, and the shapes and dtypes of its ys."""

    forward: Program
    outer: list[Value]
    backward: Backward | None
    ys: list[tuple[tuple[int, ...], torch.dtype]]


class StepRecorder:
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
        refuse_hidden_paths(recorder, frame, self.results, "engine.scan")
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
            found = partial_derivatives(
                [self.results[index] for index in live], inputs, [self.incoming[index] for index in live]
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

    def finish(self, frame: Frame) -> Step:
        """Make the regions from what was recorded."""
        outer = merge_outer([frame])
        carry_in = [_input_value(each) for each in self.carry_in]
        xs_in = [_input_value(each) for each in self.xs_in if each is not None]
        count, backward = len(self.results), None
        if self.backward_outputs is not None:
            incoming = {index: _input_value(each) for index, each in self.incoming.items()}
            inputs = []
            for index in self.carry_index:
                like = self.carry_in[index]
                inputs.append(incoming.get(index) or Value(tuple(like.shape), like.dtype))
            inputs += [_input_value(each) for each in self.sums]
            inputs += carry_in + xs_in + [incoming[index + len(carry_in)] for index in self.live_ys]
            program = eliminate_dead_code(finish(frame, inputs, outer, self.backward_outputs))
            backward = Backward(program, self.carry_index, self.live_ys, self.xs_index, self.closed)
        else:
            count = len(self.results)
        nodes = frame.nodes[: self.num_forward]
        outputs = self.forward_outputs if backward else self.forward_outputs[:count]
        whole = finish(frame, carry_in + xs_in, outer, outputs)
        forward = eliminate_dead_code(Program(whole.inputs, whole.constants, nodes, whole.outputs))
        ys = [(tuple(each.shape), each.dtype) for each in self.ys if each is not None]
        return Step(forward, outer, backward, ys)


def _or_zeros(gradient: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros(like.shape, dtype=like.dtype) if gradient is None else gradient


def _input_value(tensor: Any) -> Value:
    return tensor.view_of.storage.value
