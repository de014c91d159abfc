"""Call machine code on tensors: workspaces, pointers, and the words shared with running code."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence

import torch

from ember.engine.blas_threads import single_threaded_blas
from ember.engine.lowering.lower import Layout
from ember.engine.machine import Code
from ember.errors import message

# The words shared with running code.
LIMIT, PROGRESS, ERROR = range(3)
_NO_LIMIT = 2**63 - 1
_ALIGNMENT = 64


class Context:
    """What one thread needs to run a program: workspace, outputs, flags and the table of pointers.

    A context is used by one thread at a time; :meth:`interrupt` and :attr:`progress` may be called from
    others while it runs. Nothing is allocated while machine code runs.
    """

    def __init__(self, program: CompiledProgram) -> None:
        self.program = program
        layout = program.layout
        self._arena = torch.empty(layout.arena_size + _ALIGNMENT, dtype=torch.uint8)
        start = self._arena.data_ptr()
        self._arena_address = start + (-start) % _ALIGNMENT
        self._flags = (ctypes.c_int64 * 8)()
        self._interrupted = False
        self._inputs: list[torch.Tensor | None] = [None] * len(layout.inputs)
        self._copied = [False] * len(layout.inputs)
        pointers = [ctypes.addressof(self._flags), *[0] * len(layout.inputs)]
        pointers += [0 if each is None else each.data_ptr() for each in program.constants]
        self._first_output = len(pointers)
        self._table = (ctypes.c_void_p * (len(pointers) + len(layout.outputs)))(*pointers)
        self._call = program.code.function
        self._uses_blas = any(symbol.startswith(("blas.", "lapack.")) for symbol in layout.symbols)
        self.outputs: tuple[torch.Tensor, ...] = ()
        self.new_outputs()

    def new_outputs(self) -> None:
        """Let the next runs write to new tensors, so that those of earlier runs stay as they are."""
        self._new = tuple(torch.empty(shape, dtype=dtype) for shape, dtype in self.program.layout.outputs)
        self.outputs = self._new
        for position, output in enumerate(self.outputs):
            self._table[self._first_output + position] = output.data_ptr()

    def write_to_inputs(self, count: int) -> bool:
        """Let the next runs write the first results over the first inputs, which were bound before.

        The program must be a loop that carries them, in this order. Nothing is done, and False returned, if
        one of them shares its memory with another tensor, or was copied, or if a run can fail half-way.
        """
        shared = self._are_apart(count)
        source = self._inputs if shared else self._new
        self.outputs = tuple(each for each in (*source[:count], *self._new[count:]) if each is not None)
        for position in range(count):
            self._table[self._first_output + position] = self.outputs[position].data_ptr()
        return shared

    def _are_apart(self, count: int) -> bool:
        layout = self.program.layout
        if layout.checks or layout.compact or layout.inputs[:count] != layout.outputs[:count]:
            return False
        tensors = [each for each in (*self._inputs, *self.program.constants) if each is not None]
        memories = [each.untyped_storage().data_ptr() for each in tensors]
        written = set(memories[:count])
        return not any(self._copied[:count]) and sum(each in written for each in memories) == count

    def bind(self, *tensors: torch.Tensor) -> Context:
        """Read these inputs in the next runs; contiguous ones are read where they are, and may change.

        :raises ValueError: if number, shapes or dtypes are not those of the program.
        """
        layout = self.program.layout
        if len(tensors) != len(layout.inputs):
            raise ValueError(
                message(
                    "a compiled program was given the wrong number of tensors",
                    expected=len(layout.inputs),
                    actual=len(tensors),
                )
            )
        for position, (tensor, (shape, dtype)) in enumerate(zip(tensors, layout.inputs, strict=True)):
            if tuple(tensor.shape) != shape or tensor.dtype != dtype:
                raise ValueError(
                    message(
                        f"input {position} of a compiled program has another shape or dtype",
                        expected=f"{dtype} {list(shape)}",
                        actual=f"{tensor.dtype} {list(tensor.shape)}",
                        fix="compile the program for this shape",
                    )
                )
            kept = tensor.detach().contiguous()
            if position in layout.compact:
                kept = kept.to(torch.float32)
            self._inputs[position] = kept
            self._copied[position] = kept.data_ptr() != tensor.data_ptr()
            self._table[1 + position] = kept.data_ptr()
        return self

    def run(self, limit: int | None = None) -> tuple[torch.Tensor, ...]:
        """Run on the bound inputs, without the interpreter lock; the next run overwrites the outputs.

        :param limit: most iterations of the outermost loop; rows of a scan's results beyond it mean nothing.
        :raises IndexError: if a computed index was out of bounds.
        """
        flags = self._flags
        flags[LIMIT] = _NO_LIMIT if limit is None else limit
        if self._interrupted:
            flags[LIMIT] = 0
        if self._uses_blas:
            with single_threaded_blas():
                self._call(self._arena_address, self._table)
        else:
            self._call(self._arena_address, self._table)
        if flags[ERROR]:
            flags[ERROR] = 0
            raise IndexError(message("an index computed by a compiled program is out of bounds"))
        return self.outputs

    @property
    def progress(self) -> int:
        """Finished iterations of the outermost loop; may be read while another thread runs the program."""
        return int(self._flags[PROGRESS])

    def interrupt(self) -> None:
        """Let the outermost loop stop after its present iteration, and later runs after their first."""
        self._interrupted = True
        self._flags[LIMIT] = 0


class CompiledProgram:
    """A program as machine code.

    :ivar layout: what the code expects of its caller.
    :ivar seconds: what compiling, or loading from the cache, took.
    :ivar text: the LLVM text, if this process compiled it.
    """

    def __init__(
        self, layout: Layout, code: Code, constants: Sequence[torch.Tensor | None], seconds: float
    ) -> None:
        self.layout = layout
        self.code = code
        self.constants = tuple(constants)  # the code reads them by address
        self.seconds = seconds
        self.text: str | None = None
        self._local = threading.local()

    def context(self) -> Context:
        """Make a workspace with outputs of its own."""
        return Context(self)

    def bind(self, *tensors: torch.Tensor) -> Context:
        """Make a workspace whose ``run()`` reads these inputs."""
        return self.context().bind(*tensors)

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run on tensors and return new ones; may be called from several threads."""
        context = getattr(self._local, "context", None)
        if context is None:
            context = self._local.context = self.context()
        else:
            context.new_outputs()
        return context.bind(*tensors).run()
