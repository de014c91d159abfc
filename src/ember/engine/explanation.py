"""Explain what the engine makes of a function: what it captured, what it could not, where time goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.lowering.errors import NotLowerable
from ember.engine.passes.simplify import simplify
from ember.engine.policy import compact_inputs
from ember.engine.program import Program
from ember.engine.recording.refusal import NotCapturable


class Subject(NamedTuple):
    """A function of tensors that can be explained."""

    title: str
    function: Callable[..., Any]
    inputs: tuple[torch.Tensor, ...]


adapters: list[Callable[[Any, tuple[Any, ...], dict[str, Any]], Subject | None]] = []
"""Ways to make a function of tensors of something else, such as a model; the first that can is taken."""


@dataclass
class Explanation:
    """What :func:`explain` found out; its text is the report.

    Costs are numbers of elements computed, loops counted by their length.
    """

    title: str
    operations: int = 0
    reason: str | None = None  # why there is no machine code
    capture_seconds: float = 0.0
    compile_seconds: float = 0.0
    native_microseconds: float | None = None
    eager_microseconds: float = 0.0
    compact_data: int = 0  # inputs read as float32
    by_operation: Counter[str] = field(default_factory=Counter)
    by_site: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        lines = [self.title]
        if self.reason is None:
            lines.append(
                f"  runs as machine code: {self.operations} operations, "
                f"captured in {self.capture_seconds:.3f} s, compiled in {self.compile_seconds:.3f} s"
            )
            lines.append(
                f"  {self.native_microseconds:.2f} µs a call, eagerly {self.eager_microseconds:.0f} µs"
            )
            if self.compact_data:
                lines.append(f"  {self.compact_data} large inputs are kept as float32")
        else:
            lines.append(f"  runs eagerly, {self.eager_microseconds:.0f} µs a call: {self.reason}")
        for heading, costs in (("site", self.by_site), ("operation", self.by_operation)):
            if costs:
                lines.append(f"  elements computed by {heading}:")
                total = sum(costs.values())
                lines += [
                    f"    {name:32s} {count:12,d} {100 * count / total:5.1f} %"
                    for name, count in costs.most_common(12)
                ]
        return "\n".join(lines)


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Print, and return, what the engine makes of a model or a function of tensors.

    For a model it is the log density with its gradient, given the model's arguments.

    :param function: a model, or a function of tensors that returns tensors.
    :param args: its arguments.
    """
    subject = _subject(function, args, kwargs)
    found = Explanation(subject.title)
    found.eager_microseconds = _microseconds(lambda: subject.function(*subject.inputs), 0.1)
    try:
        started = time.perf_counter()
        program = simplify(capture(subject.function, *subject.inputs, closed_over="constant"))
        found.capture_seconds = time.perf_counter() - started
        found.operations = program.num_operations()
        _count(program, 1, found)
        compact = compact_inputs(subject.inputs, 1)
        found.compact_data = len(compact)
        compiled = compile(program, compact=compact)
        found.compile_seconds = compiled.seconds
        found.native_microseconds = _microseconds(compiled.bind(*subject.inputs).run, 0.1)
    except (NotCapturable, NotLowerable) as reason:
        found.reason = str(reason)
    print(found)
    return found


def _subject(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Subject:
    for adapter in adapters:
        subject = adapter(function, args, kwargs)
        if subject is not None:
            return subject
    if kwargs or not all(isinstance(each, torch.Tensor) for each in args):
        raise TypeError(
            "explain needs a model (import ember.infer first), or a function with tensors as positional "
            "arguments"
        )
    return Subject(getattr(function, "__name__", repr(function)), function, args)


def _microseconds(call: Callable[[], Any], seconds: float) -> float:
    """Return the mean time of a call, measured for about so many seconds."""
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not calls:
        call()
        calls += 1
    return 1e6 * elapsed / calls


def _count(program: Program, repetitions: int, found: Explanation) -> None:
    for node in program.nodes:
        for region in node.regions:
            _count(region, repetitions * int(node.attributes.get("length", 1)), found)
        if node.regions:
            continue
        elements = repetitions * sum(_size(each.shape) for each in node.outputs)
        found.by_operation[node.op.removeprefix("aten.")] += elements
        found.by_site[node.site or "(no site)"] += elements


def _size(shape: Sequence[int]) -> int:
    size = 1
    for each in shape:
        size *= each
    return size
