"""Offer random-walk Metropolis in Pyro's calling form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ember.infer.mcmc.density_kernel import DensityKernel
from ember.infer.mcmc.potential import PotentialDensity
from ember.infer.mcmc.preparation import require
from ember.kernels import random_walk
from ember.kernels.chain import Transition
from ember.kernels.warmup import Adaptation
from ember.model.density import Density


class RandomWalkKernel(DensityKernel):
    """Metropolis' algorithm with normal steps in unconstrained space: slow, but simple.

    The step size adapts in warmup.

    :param model: callable with sample statements; discrete latent ones of finite support are summed out.
    :param init_step_size: first step size.
    :param target_accept_prob: acceptance that adaptation aims at.
    :raises ValueError: for options out of range.
    """

    def __init__(
        self, model: Callable[..., Any], init_step_size: float = 0.1, target_accept_prob: float = 0.234
    ) -> None:
        require(init_step_size > 0, "init_step_size", "a positive number", init_step_size)
        require(0 < target_accept_prob < 1, "target_accept_prob", "a number in (0, 1)", target_accept_prob)
        super().__init__(model, None, init_step_size)
        self.init_step_size = init_step_size
        self.target_accept_prob = target_accept_prob

    def transition(self) -> Transition:
        """Return the pure kernel."""
        return random_walk.step

    def adaptation(self, density: Density | PotentialDensity) -> Adaptation:
        """Return what warmup adapts: the step size, from where the user put it."""
        return Adaptation(
            target_acceptance=self.target_accept_prob, adapt_metric=False, search_step_size=False
        )
