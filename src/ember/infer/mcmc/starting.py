"""Evaluate a density where chains start, as machine code if it is slow."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from ember import settings
from ember.engine.capture import capture
from ember.engine.compile import CompiledProgram, compile
from ember.engine.lowering.errors import NotLowerable
from ember.engine.refusal import NotCapturable
from ember.engine.simplify import simplify

# Where an eager gradient takes longer than this, compiling it pays off before the first draw.
_SLOW_SECONDS = 0.01


class StartingDensity:
    """A density whose first evaluation is eager, and timed; later ones are native if that was slow.

    :param density: log density with gradient.
    """

    def __init__(self, density: Any) -> None:
        self._density = density
        self._compiled: CompiledProgram | None = None
        self._timed = settings.read("execution") not in ("auto", "native")

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log density at ``z`` and its gradient."""
        if self._compiled is not None:
            value, gradient = self._compiled(z, *self._density.inputs)
            return value, gradient
        started = time.perf_counter()
        result: tuple[Tensor, Tensor] = self._density(z)
        if not self._timed and time.perf_counter() - started > _SLOW_SECONDS:
            self._compiled = self._compile(z)
        self._timed = True
        return result

    def _compile(self, example: Tensor) -> CompiledProgram | None:
        density = self._density
        try:
            program = capture(
                lambda z, *inputs: density.value_and_gradient(z, inputs),
                example,
                *density.inputs,
                closed_over="constant",
            )
            return compile(simplify(program))
        except (NotCapturable, NotLowerable, ImportError):
            return None  # the sampler, which meets the same reason, says it
