"""Decide from the losses when a run has stopped improving."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ember.errors import message
from ember.infer.training.result import total


@dataclass(frozen=True)
class Plateau:
    """Stop once the loss, averaged over windows of steps, has stopped falling.

    A window is better than the best one before if its mean is lower by more than ``tolerance`` (relative to
    the best mean's size) and by more than the noise: the standard error of the difference of both means.
    After ``patience`` windows in a row that are not better the run ends.

    :param window: number of steps that are averaged; the rule is looked at after each window.
    :param patience: number of windows without improvement.
    :param tolerance: smallest relative improvement that counts.
    :raises ValueError: for counts that are not positive, windows of one step, or a negative tolerance.
    """

    window: int = 500
    patience: int = 3
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.window < 2 or self.patience < 1 or self.tolerance < 0:
            raise ValueError(
                message(
                    "a Plateau cannot be judged like this",
                    expected="window >= 2, patience >= 1 and tolerance >= 0",
                    actual=f"window={self.window}, patience={self.patience}, tolerance={self.tolerance}",
                )
            )

    def reached(self, losses: Tensor) -> bool:
        """Whether the losses of a whole run, ``[num_steps]``, end on a plateau.

        A function of the losses alone, so that a resumed run stops where an uninterrupted one does.
        """
        count = len(losses) // self.window
        if count <= self.patience:
            return False
        windows = total(losses)[: count * self.window].reshape(count, self.window)
        means = windows.mean(1).tolist()
        errors = (windows.var(1) / self.window).tolist()  # squared standard errors of the means
        best, waited = 0, 0
        for index in range(1, count):
            noise = (errors[index] + errors[best]) ** 0.5
            needed = max(self.tolerance * abs(means[best]), noise)
            if means[index] < means[best] - needed:
                best, waited = index, 0
            else:
                waited += 1
        return waited >= self.patience
