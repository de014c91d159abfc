"""Open regions of a program under construction, and give their inputs and results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from ember.engine.program import Node, Program, Value
from ember.engine.recording.frames import Frame
from ember.engine.recording.recorder import DispatchRecorder
from ember.engine.recording.traced import Traced


@contextmanager
def region(
    recorder: DispatchRecorder, differentiable: bool = False, repeats: bool = False
) -> Iterator[Frame]:
    """Record what runs inside the ``with`` block into a region of the current frame.

    :param repeats: the region is the body of a loop.
    """
    parent = recorder.frame
    frame = recorder.frame = Frame(parent, differentiable, repeats)
    recorder.regions.append(frame)
    try:
        yield frame
    finally:
        frame.active = False
        recorder.frame = parent


def region_input(recorder: DispatchRecorder, shape: Sequence[int], dtype: torch.dtype) -> Traced:
    """Add an input to the current region."""
    return recorder.new_input(blank(shape, dtype))


def as_tensors(recorder: DispatchRecorder, leaves: list[Any], what: str) -> list[torch.Tensor | None]:
    """Turn the leaves of a nest into tensors; None stays."""
    found: list[torch.Tensor | None] = []
    for leaf in leaves:
        if leaf is None:
            found.append(None)
        elif isinstance(leaf, torch.Tensor):
            found.append(recorder.substitute(leaf))
        elif isinstance(leaf, (bool, int, float)):
            found.append(torch.tensor(leaf))
        else:
            recorder.refuse(f"{what} contains a {type(leaf).__name__}, not only tensors and numbers")
    return found


def flatten_tensors(
    recorder: DispatchRecorder, nest: Any, what: str
) -> tuple[list[torch.Tensor | None], Any]:
    """Flatten a nest into tensors and its structure."""
    leaves, structure = tree_flatten(nest)
    return as_tensors(recorder, leaves, what), structure


def read_all(recorder: DispatchRecorder, tensors: Sequence[torch.Tensor]) -> list[Value]:
    """Return the tensors' values in the current frame."""
    for tensor in tensors:
        if type(tensor) is Traced and not tensor.home.active:
            recorder.refuse(
                "a value computed inside a loop or branch is used outside of it, not through its result"
            )
    return [recorder.read(recorder.view_of(tensor)) for tensor in tensors]


def merge_outer(frames: Sequence[Frame]) -> list[Value]:
    """List what the frames of one node closed over, each value once, in order of first use."""
    return list(dict.fromkeys(value for frame in frames for value in frame.outer))


def finish(frame: Frame, inputs: list[Value], outer: list[Value], outputs: list[Value]) -> Program:
    """Make the region's program with exactly these inputs, those for ``outer`` last."""
    closed = [frame.outer.get(value) or Value(value.shape, value.dtype) for value in outer]
    return Program(inputs + closed, frame.constants, frame.nodes, outputs)


def emit_node(
    recorder: DispatchRecorder,
    op: str,
    args: tuple[Any, ...],
    regions: tuple[Program, ...],
    results: list[torch.Tensor],
    attributes: dict[str, Any] | None = None,
) -> tuple[Value, ...]:
    """Append a node with regions to the current frame."""
    outputs = tuple(recorder.new_value(result) for result in results)
    where, site = recorder.origins.current()
    recorder.frame.nodes.append(Node(op, args, {}, outputs, regions, attributes or {}, where, site))
    return outputs


def blank(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Make a real tensor whose contents mean nothing (zeros, so that integers are valid indices)."""
    with torch._C._DisableTorchDispatch():
        return torch.zeros(tuple(shape), dtype=dtype)


def partial_derivatives(
    results: Sequence[torch.Tensor], by: Sequence[torch.Tensor], incoming: Sequence[torch.Tensor]
) -> list[torch.Tensor | None]:
    """Return the vector-Jacobian products of results by tensors of the same region, None where zero."""
    # torch.autograd.grad imports torch's symbolic shapes (and sympy, 1 s) to check what comes in.
    engine: Any = torch.autograd.Variable._execution_engine
    outputs, seeds, inputs = tuple(results), tuple(incoming), tuple(by)
    return list(engine.run_backward(outputs, seeds, False, False, inputs, True, accumulate_grad=False))


def refuse_hidden_paths(
    recorder: DispatchRecorder, frame: Frame, results: list[torch.Tensor], what: str
) -> None:
    """Refuse a region whose results' graph goes on outside of it, past the leaves that stand in its place.

    That happens where torch's Python side does not see the tensor, as in the arguments of custom functions.
    """
    reason = f"a custom autograd function inside {what} uses a tensor from outside; pass it as a carry or x"
    todo = [each.grad_fn for each in results if each.grad_fn is not None]
    seen = set(todo)
    while todo:
        node: Any = todo.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            if recorder.home(leaf) is not frame and not recorder.is_declared_constant(leaf):
                recorder.refuse(reason)
        elif node._sequence_nr() < frame.first_autograd_node:
            recorder.refuse(reason)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)


class Undifferentiable(torch.autograd.Function):
    """Gives results that depend on differentiable tensors, and refuses when a gradient is asked for."""

    @staticmethod
    def forward(ctx: Any, recorder: Any, reason: str, emit: Callable[[], list[torch.Tensor]], *_: Any) -> Any:
        ctx.recorder, ctx.reason = recorder, reason
        results = emit()
        ctx.mark_non_differentiable(*(each for each in results if not each.is_floating_point()))
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.recorder.refuse(ctx.reason)


def emit_undifferentiable(
    recorder: DispatchRecorder,
    reason: str,
    emit: Callable[[], list[torch.Tensor]],
    sources: list[torch.Tensor],
) -> list[torch.Tensor]:
    """Call ``emit``; let a gradient through its results to ``sources`` be refused for ``reason``."""
    sources = [each for each in sources if each.requires_grad]
    if not torch.is_grad_enabled() or not sources:
        return emit()
    return list(Undifferentiable.apply(recorder, reason, emit, *sources))
