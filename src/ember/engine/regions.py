"""Open regions of a program under construction, and give their inputs and results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from ember.engine.program import Node, Program, Value
from ember.engine.recorder import DispatchRecorder, Frame
from ember.engine.traced import Traced


@contextmanager
def region(recorder: DispatchRecorder, differentiable: bool = False) -> Iterator[Frame]:
    """Record what runs inside the ``with`` block into a region of the current frame."""
    parent = recorder.frame
    frame = recorder.frame = Frame(parent, differentiable)
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
    where, site = recorder.origin()
    recorder.frame.nodes.append(Node(op, args, {}, outputs, regions, attributes or {}, where, site))
    return outputs


def blank(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Make a real tensor whose contents mean nothing (zeros, so that integers are valid indices)."""
    with torch._C._DisableTorchDispatch():
        return torch.zeros(tuple(shape), dtype=dtype)


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
