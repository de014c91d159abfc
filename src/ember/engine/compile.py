"""Compile programs to native functions of tensors."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Sequence

import torch

from ember.engine import machine
from ember.engine.lowering.lower import ENTRY, Lowered, lower
from ember.engine.program import Program


# The words shared with running code.
LIMIT, PROGRESS, ERROR = range(3)
_NO_LIMIT = 2**63 - 1


class Context:
    """What one thread needs to run a program: workspace, outputs, flags and the table of pointers."""

    def __init__(self, program: CompiledProgram) -> None:
        self.program = program
        lowered = program.lowered
        self._arena = torch.empty(lowered.arena_size + 64, dtype=torch.uint8)
        start = self._arena.data_ptr()
        self._arena_address = start + (-start) % 64
        self.flags = torch.zeros(8, dtype=torch.int64)
        self._interrupted = False
        self.outputs = tuple(torch.empty(shape, dtype=dtype) for shape, dtype in lowered.outputs)
        self._inputs: list[torch.Tensor | None] = [None] * len(lowered.inputs)
        pointers = [self.flags.data_ptr(), *[0] * len(lowered.inputs)]
        pointers += [constant.data_ptr() for constant in lowered.constants]
        pointers += [output.data_ptr() for output in self.outputs]
        self._table = (ctypes.c_void_p * len(pointers))(*pointers)
        self._first_output = len(pointers) - len(self.outputs)
        self._call = program.code.function

    def bind(self, *tensors: torch.Tensor) -> Context:
        """Read these inputs in the next runs; contiguous ones are read where they are, and may change."""
        expected = self.program.lowered.inputs
        if len(tensors) != len(expected):
            raise ValueError(f"the program takes {len(expected)} tensors, got {len(tensors)}")
        for position, (tensor, (shape, dtype)) in enumerate(zip(tensors, expected, strict=True)):
            if tuple(tensor.shape) != shape or tensor.dtype != dtype:
                raise ValueError(
                    f"input {position} of the program is {dtype}{list(shape)}, got {tensor.dtype}{list(tensor.shape)}"
                )
            kept = tensor.detach().contiguous()
            self._inputs[position] = kept
            self._table[1 + position] = kept.data_ptr()
        return self

    def run(self, limit: int | None = None) -> tuple[torch.Tensor, ...]:
        """Run the program on the bound inputs; the outputs are overwritten by the next run.

        :param limit: most iterations of the outermost loop; rows of a scan's results beyond it mean nothing.
        """
        self.flags[LIMIT] = _NO_LIMIT if limit is None else limit
        if self._interrupted:
            self.flags[LIMIT] = 0
        self._call(self._arena_address, self._table)
        return self.outputs

    @property
    def progress(self) -> int:
        """Finished iterations of the outermost loop; may be read while another thread runs the program."""
        return int(self.flags[PROGRESS])

    def interrupt(self) -> None:
        """Let the outermost loop stop after its present iteration, and later runs after their first."""
        self._interrupted = True
        self.flags[LIMIT] = 0


class CompiledProgram:
    """A program as machine code."""

    def __init__(self, lowered: Lowered, code: machine.Code, seconds: float) -> None:
        self.lowered = lowered
        self.code = code
        self.seconds = seconds
        self._local = threading.local()

    def context(self) -> Context:
        """Make a workspace with outputs of its own; use it from one thread at a time."""
        return Context(self)

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run on tensors and return new ones."""
        context = self.context().bind(*tensors)
        return context.run()


def compile(program: Program, target: machine.Target | None = None) -> CompiledProgram:
    """Compile a program to machine code.

    :raises NotLowerable: if an operation has no lowering.
    """
    target = target or machine.host()
    start = time.perf_counter()
    lowered = lower(program, target.lanes, target.masked_tails)
    data = machine.assemble(lowered.text, target, lowered.num_calls)
    code = machine.Code(data, target, ENTRY, lowered.symbols)
    return CompiledProgram(lowered, code, time.perf_counter() - start)


__all__ = ["CompiledProgram", "Context", "Sequence", "compile"]
