"""Evaluate a density where chains start, as machine code if it takes many operations."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ember import settings
from ember.engine.capture import capture
from ember.engine.compile import CompiledProgram, compile
from ember.engine.lowering.errors import NotLowerable
from ember.engine.refusal import NotCapturable
from ember.engine.simplify import simplify
from ember.model.start import Evaluate

# Where an eager gradient takes more operations than this, compiling it pays off before the first draw.
# Counted, not timed: the two round differently, and equal seeds must give equal draws.
_MANY_OPERATIONS = 1500


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
    """A density that is evaluated eagerly, or natively if that takes many operations.

    :param density: log density with gradient.
    """

    def __init__(self, density: Any) -> None:
        self._density = density
        self._evaluate: Evaluate = density
        self._compiled: CompiledProgram | None = None
        self._counted = settings.read("execution") not in ("auto", "native")

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log density at ``z`` and its gradient."""
        if not self._counted:
            self._counted = True
            try:
                with _Counter():
                    return self._evaluate(z)
            except _TooMany:
                self._compiled = self._compile(z)
        if self._compiled is None:
            return self._evaluate(z)
        value, gradient = self._compiled(z, *self._density.inputs)
        return value, gradient

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
