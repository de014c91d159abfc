"""Offer the No-U-Turn sampler in Pyro's calling form."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ember.infer.mcmc.hmc import HMC
from ember.kernels import nuts as nuts_kernel
from ember.kernels.chain import Transition
from ember.kernels.warmup import MetricName, SchemeName
from ember.model.initialisation import InitStrategy


class NUTS(HMC):
    """The No-U-Turn sampler: Hamiltonian Monte Carlo that finds the length of its trajectories itself.

    Multinomial sampling along the trajectory and the generalised U-turn criterion (Hoffman & Gelman 2014;
    Betancourt, arXiv 1701.02434).

    :param use_multinomial_sampling: only True; False warns.
    :param max_tree_depth: a trajectory has at most ``2 ** max_tree_depth - 1`` leapfrog steps.

    The other parameters are those of :class:`HMC`.
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        potential_fn: Callable[..., Tensor] | None = None,
        step_size: float = 1,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: bool | Sequence[Sequence[str]] = False,
        use_multinomial_sampling: bool = True,
        transforms: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
        jit_compile: bool = False,
        jit_options: Mapping[str, Any] | None = None,
        ignore_jit_warnings: bool = False,
        target_accept_prob: float = 0.8,
        max_tree_depth: int = 10,
        init_strategy: InitStrategy | None = None,
        *,
        metric: MetricName | None = None,
        scheme: SchemeName = "mixed",
        sum_discrete: bool = True,
    ) -> None:
        super().__init__(
            model,
            potential_fn,
            step_size,
            adapt_step_size=adapt_step_size,
            adapt_mass_matrix=adapt_mass_matrix,
            full_mass=full_mass,
            transforms=transforms,
            max_plate_nesting=max_plate_nesting,
            jit_compile=jit_compile,
            jit_options=jit_options,
            ignore_jit_warnings=ignore_jit_warnings,
            target_accept_prob=target_accept_prob,
            init_strategy=init_strategy,
            metric=metric,
            scheme=scheme,
            sum_discrete=sum_discrete,
        )
        if max_tree_depth < 1:
            raise ValueError(f"max_tree_depth must be at least 1, got {max_tree_depth}")
        if not use_multinomial_sampling:
            warnings.warn("slice sampling is not offered: NUTS uses multinomial sampling, which mixes better")
        self.max_tree_depth = max_tree_depth

    def transition(self) -> Transition:
        """Return the pure kernel with this object's options."""
        return functools.partial(nuts_kernel.step, max_tree_depth=self.max_tree_depth)
