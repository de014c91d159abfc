"""Turn a program into the text of an LLVM module and the layout of its memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ember.engine.program import Program

from . import control, indexing, linear_algebra, pointwise, products, random_bits, reductions, special, views  # noqa: F401 - they fill the table of operations
from .builder import Builder
from .kernel import Kernel
from .memory import layout, settle
from .regions import emit_block
from .schedule import plan
from .tensors import Map, Tensor, memory_of
from .text import Module

ENTRY = "ember_run"
EMBEDDED = 64  # constants of at most this many elements are part of the code


@dataclass
class Lowered:
    """LLVM text, and what its entry point expects.

    The entry ``void ember_run(ptr arena, ptr table)`` gets a workspace of ``arena_size`` bytes, aligned to 64, and
    a table of pointers: the flags (limit, progress, error), then inputs, large constants and outputs.
    """

    text: str
    arena_size: int
    constants: list[torch.Tensor]
    inputs: list[tuple[tuple[int, ...], torch.dtype]]
    outputs: list[tuple[tuple[int, ...], torch.dtype]]
    symbols: list[str] = field(default_factory=list)
    num_calls: int = 0
    num_groups: int = 0


def lower(program: Program, lanes: int, masked_tails: bool) -> Lowered:
    """Lower a program for a machine with ``lanes`` float64 per vector register.

    :raises NotLowerable: naming the operation, the reason and the user's line.
    """
    builder = Builder()
    slot = 1
    for value in program.inputs:
        tensor = Tensor(value.shape, builder.kind(value.dtype))
        tensor.storage = ("table", slot)
        slot += 1
        builder.values[value] = tensor
    builder.run(program)
    module = Module()
    module.functions.append("")
    first_output = slot + len(builder.constants)
    outputs = _place_outputs(builder, program, first_output)
    block = builder.block
    block.outputs = outputs
    plan(block)
    kernel = Kernel(module, ENTRY, lanes, masked_tails)
    constants = []
    for tensor in builder.constants:
        if isinstance(tensor, Map):
            constants.append(torch.zeros(0))
        elif tensor.numel <= EMBEDDED:
            kernel.global_constant(tensor)
            constants.append(torch.zeros(0))
        else:
            tensor.storage = ("table", slot)
            constants.append(torch.from_numpy(tensor.constant))
            tensor.constant = None
        slot += 1
    arena_size = layout(block)
    settle(block, 0)
    emit_block(kernel, block)
    kernel.finish("")
    return Lowered(
        text=module.text(),
        arena_size=arena_size,
        constants=constants,
        inputs=[(tuple(value.shape), value.dtype) for value in program.inputs],
        outputs=[(tuple(value.shape), value.dtype) for value in program.outputs],
        symbols=sorted(module.symbols),
        num_calls=module.num_calls,
        num_groups=len(block.groups),
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


__all__ = ["ENTRY", "Lowered", "lower"]
