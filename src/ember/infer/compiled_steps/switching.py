"""Take the steps of a training run: the first ones eagerly, and the others as machine code if possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ember.errors import NotFiniteError
from ember.infer.compiled_steps.arguments import Arguments
from ember.infer.compiled_steps.captured import CapturedSteps
from ember.infer.compiled_steps.execution import Execution
from ember.infer.seed import draw_seed
from ember.infer.training.steps import EagerSteps, blame_loss

if TYPE_CHECKING:
    from ember.infer.svi import SVI


class SwitchingSteps(EagerSteps):
    """Steps of one run; see :class:`~ember.infer.training.steps.Steps`."""

    def __init__(self, svi: SVI, execution: Execution) -> None:
        super().__init__(svi)
        self._execution = execution
        self._captured: CapturedSteps | None = None
        self._seed: int | None = None  # drawn when machine code takes its first step
        self._number = 0  # of the next step of machine code

    def advance(self, num_steps: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Take up to ``num_steps`` steps."""
        arguments = Arguments(args, kwargs)
        captured = self._captured = self._execution.captured(arguments)
        if captured is None:
            # One at a time, since the next one may find a program.
            return super().advance(1, args, kwargs)
        if self._seed is None and captured.draws_from_seed:
            self._seed = draw_seed()
        losses, fine = captured.take(num_steps, arguments, self._seed or 0, self._number)
        if not fine:
            refused = losses.pop()
            if not losses:
                raise NotFiniteError(blame_loss(self._svi, args, kwargs, refused))
        self._number += len(losses)
        return torch.tensor(losses, dtype=torch.float64)

    def interrupt(self) -> None:
        """Stop after the present step."""
        super().interrupt()
        captured = self._captured
        if captured is not None:
            captured.interrupt()

    def state(self) -> dict[str, Any]:
        """Return the stream of machine code and the place in it."""
        return {"seed": self._seed, "number": self._number, "eager": self._execution.state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on in the stream of an earlier run."""
        self._seed, self._number = state["seed"], state["number"]
        self._execution.set_state(state["eager"])
