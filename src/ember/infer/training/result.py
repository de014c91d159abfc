"""Hold what a training run gave: losses, parameters, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Ending = Literal["complete", "plateau", "callback", "out of time", "interrupted", "error"]
SMOOTHING = 100  # steps whose mean is called the smoothed loss


@dataclass(frozen=True)
class StepInfo:
    """How far a run is, for callbacks."""

    step: int  # steps taken, those before a resumption included
    loss: float  # of the last step
    smoothed: float  # mean over the last steps
    seconds: float  # since the beginning, times before a resumption included


@dataclass(frozen=True)
class SVIResult:
    """What :meth:`ember.infer.SVI.run` gives; of a resumed run all from its very beginning.

    The losses have shape ``[num_steps]``, or ``[num_steps, parts]`` for objectives of several parts, and are
    estimates of the negative evidence lower bound.
    """

    losses: Tensor
    ending: Ending
    params: dict[str, Tensor]  # constrained values, without gradients
    seconds: float

    @property
    def num_steps(self) -> int:
        """Number of steps taken."""
        return len(self.losses)

    def smoothed(self, window: int = SMOOTHING) -> Tensor:
        """Return at each step the mean of the last ``window`` losses, or as many as there are."""
        return smooth(self.losses, window)

    def __repr__(self) -> str:
        loss = f"{self.smoothed()[-1].item():.4g}" if len(self.losses) else "none"
        return (
            f"SVIResult({self.num_steps} steps, {self.ending}, smoothed loss {loss}, {self.seconds:.1f} s, "
            f"{len(self.params)} parameters)"
        )


def total(losses: Tensor) -> Tensor:
    """Add the parts of each step's loss."""
    return losses if losses.ndim == 1 else losses.sum(-1)


def smooth(losses: Tensor, window: int) -> Tensor:
    """Return the running mean over the last ``window`` elements, or as many as there are."""
    losses = total(losses).double()
    if not len(losses):
        return losses
    # Centred, so that long sums lose no digits.
    centre = losses.mean()
    sums = torch.cat([losses.new_zeros(1), (losses - centre).cumsum(0)])
    ends = torch.arange(1, len(losses) + 1)
    starts = (ends - window).clamp(min=0)
    return centre + (sums[ends] - sums[starts]) / (ends - starts)


class Losses:
    """A growing tensor of losses."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, losses: Tensor) -> None:
        """Add the losses of a chunk."""
        if not len(losses):
            return
        end = self._count + len(losses)
        if self._memory is None or end > len(self._memory):
            grown = losses.new_empty((max(256, 2 * end), *losses.shape[1:]), dtype=torch.float64)
            if self._memory is not None:
                grown[: self._count] = self._memory[: self._count]
            self._memory = grown
        self._memory[self._count : end] = losses
        self._count = end

    def view(self) -> Tensor:
        """Return the losses so far; the tensor shares memory."""
        return torch.empty(0, dtype=torch.float64) if self._memory is None else self._memory[: self._count]

    def recent(self) -> tuple[float, float]:
        """Return the last loss and the smoothed one."""
        last = total(self.view()[-SMOOTHING:])
        return last[-1].item(), last.mean().item()
