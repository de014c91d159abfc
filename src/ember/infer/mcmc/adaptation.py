"""Adapt step size and mass matrix as Pyro's kernels do, for kernels that users write themselves.

ember's own kernels adapt inside their compiled loops (:mod:`ember.kernels.warmup`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ember.infer.mcmc.mass_matrix import ArrowheadMassMatrix, BlockMassMatrix, Shapes
from ember.kernels.schedule import stan_windows
from ember.ops.dual_averaging import DualAveraging

__all__ = ["ArrowheadMassMatrix", "BlockMassMatrix", "WarmupAdapter", "adapt_window"]


class adapt_window(NamedTuple):
    """First and last step of a window."""

    start: int
    end: int


class WarmupAdapter:
    """Adapt a step size by dual averaging, and a mass matrix in windows that double, as Stan does.

    :param step_size: first step size.
    :param adapt_step_size: whether it is adapted.
    :param target_accept_prob: acceptance to aim at.
    :param adapt_mass_matrix: whether the mass matrix is adapted.
    :param dense_mass: kept for the kernel, which chooses the shapes that it gives to :meth:`configure`.
    """

    def __init__(
        self,
        step_size: float = 1,
        adapt_step_size: bool = False,
        target_accept_prob: float = 0.8,
        adapt_mass_matrix: bool = False,
        dense_mass: bool = False,
    ) -> None:
        self.adapt_step_size = adapt_step_size
        self.adapt_mass_matrix = adapt_mass_matrix
        self.target_accept_prob = target_accept_prob
        self.dense_mass = dense_mass
        self.step_size: Any = 1 if step_size is None else step_size
        self.mass_matrix_adapter: Any = BlockMassMatrix()
        self._averaging = DualAveraging()
        self._windows: list[adapt_window] = []
        self._num_warmup = 0
        self._current = 0
        self._find: Callable[[Any], Any] = lambda z: self.step_size

    @property
    def adaptation_schedule(self) -> list[adapt_window]:
        """The windows: a start, those at whose ends the mass matrix changes, an end for the step size."""
        return self._windows

    def configure(
        self,
        warmup_steps: int,
        initial_step_size: float | None = None,
        mass_matrix_shape: Shapes | None = None,
        find_reasonable_step_size_fn: Callable[[Any], Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin a warmup.

        :param warmup_steps: its number of steps.
        :param initial_step_size: first step size.
        :param mass_matrix_shape: for the mass matrix, see :meth:`BlockMassMatrix.configure`.
        :param find_reasonable_step_size_fn: position → step size, called where the search begins anew.
        :param options: dtype and device of the mass matrix.
        """
        self._num_warmup = warmup_steps
        self._current = 0
        self._averaging = DualAveraging()
        if initial_step_size is not None:
            self.step_size = initial_step_size
        if find_reasonable_step_size_fn is not None:
            self._find = find_reasonable_step_size_fn
        if mass_matrix_shape is not None:
            self.mass_matrix_adapter.configure(mass_matrix_shape, self.adapt_mass_matrix, options or {})
        adapting = self.adapt_step_size or self.adapt_mass_matrix
        self._windows = [adapt_window(*each) for each in stan_windows(warmup_steps)] if adapting else []

    def reset_step_size_adaptation(self, z: Mapping[str, Tensor]) -> None:
        """Search for a step size at a position, and begin to average anew around ten times it."""
        if self.adapt_step_size:
            self.step_size = self._find(z)
            self._averaging.prox_center = math.log(10 * float(self.step_size))
            self._averaging.reset()

    def step(
        self,
        t: int,
        z: Mapping[str, Tensor],
        accept_prob: Any,
        z_grad: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take a step of warmup into account.

        :param t: its number, from 0.
        :param z: the position after it, by site.
        :param accept_prob: its acceptance.
        :param z_grad: gradient of the potential at the position.
        """
        if t >= self._num_warmup or not self._windows:
            return
        last = self._current == len(self._windows) - 1
        if self.adapt_step_size:
            self._averaging.step(self.target_accept_prob - float(accept_prob))
            self.step_size = math.exp(self._averaging.get_state()[0])
        estimating = self.adapt_mass_matrix and self._current > 0 and not last
        if estimating:
            self.mass_matrix_adapter.update(z, z_grad)
        if t < self._windows[self._current].end:
            return
        if last:
            if self.adapt_step_size:
                self.step_size = math.exp(self._averaging.get_state()[1])
        elif estimating:
            self.mass_matrix_adapter.end_adaptation()
            self.reset_step_size_adaptation(z)
        self._current += 1
