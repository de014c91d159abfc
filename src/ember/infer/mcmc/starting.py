"""Evaluate a density where chains start, as a recorded program if it takes many operations."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ember import settings
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.interpret import interpret
from ember.engine.lowering.errors import NotLowerable
from ember.engine.passes.simplify import simplify
from ember.engine.program import Program
from ember.engine.recording.refusal import NotCapturable
from ember.engine.replay import replay
from ember.model.start import Evaluate

# Where an eager gradient takes more operations than this, recording it pays off before the first draw; where
# the program takes more than that, loops counted by their length, compiling it does. Counted, not timed:
# they round differently, and equal seeds must give equal draws.
_MANY_OPERATIONS, _MANY_RECORDED = 1500, 10_000


class _TooMany(BaseException):
    """An evaluation takes more operations than it should."""


class _Counter(TorchDispatchMode):
    """Counts operations, and raises at too many."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch wraps __torch_dispatch__ so that its first call imports torch._dynamo (1.4 s).
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if self.count > _MANY_OPERATIONS:
            raise _TooMany
        return func(*args, **(kwargs or {}))


class StartingDensity:
    """A density that is evaluated eagerly or, if that takes many operations, as it was recorded.

    :param density: log density with gradient.
    """

    def __init__(self, density: Any) -> None:
        self._density = density
        self._evaluate: Evaluate = density
        self._program: Program | None = None
        self._counted = settings.read("execution") not in ("auto", "native")

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log density at ``z`` and its gradient."""
        if not self._counted:
            self._counted = True
            try:
                with _Counter():
                    return self._evaluate(z)
            except _TooMany:
                self._record(z)
        return self._evaluate(z)

    def value_and_gradient(self, z: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return log density and gradient for other inputs, as programs are made of them."""
        if self._program is None:
            result: tuple[Tensor, Tensor] = self._density.value_and_gradient(z, inputs)
            return result
        value, gradient = replay(self._program, z, *inputs)
        return value, gradient

    def _record(self, example: Tensor) -> None:
        density = self._density
        try:
            program = simplify(
                capture(
                    lambda z, *inputs: density.value_and_gradient(z, inputs),
                    example,
                    *density.inputs,
                    closed_over="constant",
                )
            )
            compiled = compile(program) if _length(program) > _MANY_RECORDED else None
        except (NotCapturable, NotLowerable, ImportError):
            return  # the sampler, which meets the same reason, says it
        self._program = program

        def evaluate(z: Tensor) -> tuple[Tensor, Tensor]:
            run = compiled or partial(interpret, program)
            value, gradient = run(z, *density.inputs)
            return value, gradient

        self._evaluate = evaluate


def _length(program: Program) -> int:
    """Return the least number of operations of a run."""
    length = len(program.nodes)
    for node in program.nodes:
        inside = [_length(region) for region in node.regions]
        if node.op == "cond":
            length += min(inside)
        elif node.op == "scan":
            length += int(node.attributes["length"]) * inside[0]
    return length
