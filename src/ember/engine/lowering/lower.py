"""Turn a program into the text of an LLVM module and the layout of its memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from ember.engine.program import Program, Value

from . import (
    fortran,
    operations,  # noqa: F401 - fills the table of operations
)
from .builder import Builder
from .elements import DTYPES, KINDS
from .errors import NotLowerable
from .kernel import Kernel
from .memory import layout, settle
from .module import Module
from .regions import emit_block
from .schedule import plan
from .tensors import Map, Tensor, memory_of

ENTRY = "ember_run"
MOST_OPERATIONS = 40_000  # more would take minutes to compile
EMBEDDED = 64  # constants of at most this many elements are part of the code
Signature = tuple[tuple[int, ...], torch.dtype]


@dataclass
class Layout:
    """What the entry point ``void ember_run(ptr arena, ptr table)`` expects.

    The arena is a workspace of ``arena_size`` bytes, aligned to 64; the table holds pointers: to the words
    shared with Python, then to inputs, constants and outputs.

    :ivar constants: for each constant of the program, whether it is read from memory.
    :ivar compact: inputs given as float32.
    :ivar symbols: functions of libm, SciPy, BLAS and LAPACK that the code calls.
    :ivar checks: whether a run may end with an error, because an index was out of bounds.
    """

    arena_size: int
    inputs: list[Signature]
    outputs: list[Signature]
    constants: list[bool]
    compact: list[int]
    symbols: list[str]
    checks: bool = True

    def description(self) -> dict[str, Any]:
        """Return a form that JSON can hold."""
        return {
            "arena_size": self.arena_size,
            "inputs": [[list(shape), KINDS[dtype]] for shape, dtype in self.inputs],
            "outputs": [[list(shape), KINDS[dtype]] for shape, dtype in self.outputs],
            "constants": self.constants,
            "compact": self.compact,
            "symbols": self.symbols,
            "checks": self.checks,
        }

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Layout:
        """Undo :meth:`description`."""
        signatures = {
            name: [(tuple(shape), DTYPES[kind]) for shape, kind in description[name]]
            for name in ("inputs", "outputs")
        }
        return cls(**{**description, **signatures})


@dataclass
class Lowered:
    """LLVM text, and how it is called.

    :ivar num_calls: number of calls of elementary functions.
    """

    text: str
    layout: Layout
    num_calls: int


def lower(program: Program, lanes: int, masked_tails: bool, compact: Collection[int] = ()) -> Lowered:
    """Lower a program for a machine with ``lanes`` float64 per vector register.

    :param masked_tails: whether the machine masks lanes cheaply.
    :param compact: positions of float64 inputs that are given as float32.
    :raises NotLowerable: naming the operation, the reason and the user's line.
    """
    builder = Builder()
    if program.num_operations() > MOST_OPERATIONS:
        raise NotLowerable(
            "program", f"it has more than {MOST_OPERATIONS} operations; use engine.scan for loops"
        )
    slot = 1
    for position, value in enumerate(program.inputs):
        builder.values[value] = _input(builder, value, slot, position in compact)
        slot += 1
    builder.run(program)
    module = Module()
    outputs = _place_outputs(builder, program, slot + len(builder.constants))
    block = builder.block
    block.outputs = outputs
    plan(block)
    kernel = Kernel(module, ENTRY, lanes, masked_tails)
    stored = []
    for tensor in builder.constants:
        stored.append(not isinstance(tensor, Map) and tensor.numel > EMBEDDED)
        if stored[-1]:
            tensor.storage = ("table", slot)
            tensor.constant = None
        elif not isinstance(tensor, Map):
            fortran.array(kernel, tensor)
        slot += 1
    arena_size = layout(block)
    settle(block, 0)
    emit_block(kernel, block)
    kernel.finish("")
    signature = Layout(
        arena_size=arena_size,
        inputs=[(tuple(value.shape), value.dtype) for value in program.inputs],
        outputs=[(tuple(value.shape), value.dtype) for value in program.outputs],
        constants=stored,
        compact=sorted(compact),
        symbols=sorted(module.symbols),
        checks=module.checks,
    )
    return Lowered(module.text(), signature, module.num_calls)


def _input(builder: Builder, value: Value, slot: int, compact: bool) -> Tensor:
    kind = builder.kind(value.dtype)
    tensor = Tensor(value.shape, "f32" if compact else kind)
    tensor.storage = ("table", slot)
    if not compact:
        return tensor
    if kind != "f64":
        raise ValueError(f"only float64 inputs can be stored as float32, got {value.dtype}")
    return builder.map(
        value.shape, kind, [(tensor, True)], lambda k, index: k.convert(k.read(tensor, index), kind), 0
    )


def _place_outputs(builder: Builder, program: Program, slot: int) -> list[Tensor]:
    """Let results be computed in the output buffers, with a copy where one would serve two purposes."""
    outputs = []
    taken: set[Tensor] = set()
    own = set(builder.block.made)
    for value in program.outputs:
        tensor = builder.values[value]
        memory = memory_of(tensor)
        if memory in taken or memory not in own or memory.storage is not None or memory.numel == 0:
            tensor = memory = builder.copy(tensor)
        taken.add(memory)
        memory.storage = ("table", slot)
        outputs.append(tensor)
        slot += 1
    return outputs
