"""Record conditional branches as nodes with two regions, and their gradients likewise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_unflatten

from ember.engine.passes.copying import copy_program
from ember.engine.passes.dead_code import eliminate_dead_code
from ember.engine.program import Program, Value
from ember.engine.recording.recorder import DispatchRecorder
from ember.engine.recording.regions import (
    blank,
    emit_node,
    emit_undifferentiable,
    finish,
    flatten_tensors,
    merge_outer,
    partial_derivatives,
    read_all,
    refuse_hidden_paths,
    region,
    region_input,
)
from ember.engine.recording.while_loops import as_predicate, describe


class _Branch:
    """One recorded branch: its results, and their gradients by what it closes over."""

    def __init__(self, recorder: DispatchRecorder, fn: Callable[..., Any], operands: tuple[Any, ...]) -> None:
        enabled = torch.is_grad_enabled()
        with region(recorder, differentiable=enabled) as frame:
            self.frame = frame
            results, self.structure = flatten_tensors(
                recorder, fn(*operands), "the result of engine.cond's branch"
            )
            self.present = [each is not None for each in results]
            self.results = [each for each in results if each is not None]
            refuse_hidden_paths(recorder, frame, self.results, "engine.cond")
            self.outputs = read_all(recorder, self.results)
            self.num_forward = len(frame.nodes)
            self.incoming: dict[int, Value] = {}
            self.gradients: dict[int, Value] = {}
            if frame.leaves:
                self._record_gradients(recorder)

    def _record_gradients(self, recorder: DispatchRecorder) -> None:
        live = [index for index, each in enumerate(self.results) if each.requires_grad]
        if not live:
            return
        incoming = [
            region_input(recorder, self.results[index].shape, self.results[index].dtype) for index in live
        ]
        leaves = [leaf for _, leaf in self.frame.leaves.values()]
        found = partial_derivatives([self.results[index] for index in live], leaves, incoming)
        self.incoming = dict(zip(live, read_all(recorder, incoming), strict=True))
        for (original, _), gradient in zip(self.frame.leaves.values(), found, strict=True):
            if gradient is not None:
                self.gradients[id(original)] = read_all(recorder, [gradient])[0]

    def forward(self, outer: list[Value]) -> Program:
        whole = finish(self.frame, [], outer, self.outputs)
        return eliminate_dead_code(
            Program(whole.inputs, whole.constants, self.frame.nodes[: self.num_forward], whole.outputs)
        )

    def backward(self, closed: list[torch.Tensor], outer: list[Value]) -> Program:
        """Make the region (gradients of all results, outer) → gradients of all closed-over tensors."""
        inputs = [self.incoming.get(i) or Value(tuple(r.shape), r.dtype) for i, r in enumerate(self.results)]
        whole = finish(self.frame, inputs, outer, [])
        constants, outputs = dict(whole.constants), []
        for tensor in closed:
            value = self.gradients.get(id(tensor))
            if value is None:
                zeros = blank(tensor.shape, tensor.dtype)
                value = Value(tuple(zeros.shape), zeros.dtype)
                constants[value] = zeros
            outputs.append(value)
        return copy_program(eliminate_dead_code(Program(whole.inputs, constants, whole.nodes, outputs)))


@dataclass
class _Cond:
    """A recorded conditional."""

    recorder: DispatchRecorder
    predicate: Value
    branches: tuple[_Branch, _Branch]
    outer: list[Value]
    closed: list[torch.Tensor]

    def emit(self) -> list[torch.Tensor]:
        results = [blank(each.shape, each.dtype) for each in self.branches[0].results]
        regions = tuple(branch.forward(self.outer) for branch in self.branches)
        return self._emit(regions, tuple(self.outer), results)

    def _emit(
        self, regions: tuple[Program, ...], outer: tuple[Value, ...], results: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        recorder = self.recorder
        args = (recorder.localise(self.predicate), tuple(map(recorder.localise, outer)))
        values = emit_node(recorder, "cond", args, regions, results)
        return [recorder.wrap(value, each) for value, each in zip(values, results, strict=True)]

    def emit_gradients(self, gradients: tuple[torch.Tensor | None, ...]) -> list[torch.Tensor]:
        given = [
            torch.zeros(each.shape, dtype=each.dtype) if gradient is None else gradient
            for each, gradient in zip(self.branches[0].results, gradients, strict=True)
        ]
        outer = (*read_all(self.recorder, given), *self.outer)
        regions = tuple(branch.backward(self.closed, self.outer) for branch in self.branches)
        return self._emit(regions, outer, [blank(each.shape, each.dtype) for each in self.closed])


class _DifferentiableCond(torch.autograd.Function):
    """Connects a recorded conditional to the graph outside."""

    @staticmethod
    def forward(ctx: Any, cond: _Cond, *_: Any) -> Any:
        ctx.cond = cond
        ctx.set_materialize_grads(False)
        results = cond.emit()
        ctx.mark_non_differentiable(*(each for each in results if not each.is_floating_point()))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        cond: _Cond = ctx.cond
        reason = "a second derivative through engine.cond"
        sources = [*cond.closed, *(each for each in gradients if each is not None)]
        found = emit_undifferentiable(cond.recorder, reason, lambda: cond.emit_gradients(gradients), sources)
        return None, *found


def record_cond(
    recorder: DispatchRecorder,
    predicate: Any,
    if_true: Callable[..., Any],
    if_false: Callable[..., Any],
    operands: tuple[Any, ...],
) -> Any:
    """Record a conditional, and return its result."""
    choice = as_predicate(recorder, predicate)
    if recorder.view_of(choice).is_constant:
        return if_true(*operands) if bool(choice) else if_false(*operands)
    chosen = read_all(recorder, [choice])[0]
    first, second = _Branch(recorder, if_true, operands), _Branch(recorder, if_false, operands)
    _check(recorder, first, second)
    outer = merge_outer([first.frame, second.frame])
    closed = {id(original): original for b in (first, second) for original, _ in b.frame.leaves.values()}
    cond = _Cond(recorder, chosen, (first, second), outer, list(closed.values()))
    if torch.is_grad_enabled() and closed:
        results = list(_DifferentiableCond.apply(cond, *cond.closed))
    else:
        results = cond.emit()
    remaining = iter(results)
    leaves = [next(remaining) if present else None for present in first.present]
    return tree_unflatten(leaves, first.structure)


def _check(recorder: DispatchRecorder, first: _Branch, second: _Branch) -> None:
    if first.structure != second.structure or first.present != second.present:
        recorder.refuse(
            f"the branches of engine.cond differ in structure: {first.structure} and {second.structure}"
        )
    for index, (one, other) in enumerate(zip(first.results, second.results, strict=True)):
        if one.shape != other.shape or one.dtype != other.dtype:
            recorder.refuse(
                f"result {index} of engine.cond is {describe(one)} or {describe(other)}, as the branch goes"
            )
