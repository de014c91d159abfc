"""Offer a model's potential function and starting values in Pyro's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ember.engine import random
from ember.infer.mcmc.preparation import unconstraining
from ember.infer.seed import draw_seed
from ember.model.density import Density
from ember.model.initialisation import InitStrategy
from ember.model.start import find_start


def initialize_model(
    model: Callable[..., Any],
    model_args: tuple[Any, ...] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    transforms: Mapping[str, Any] | None = None,
    max_plate_nesting: int | None = None,
    jit_compile: bool = False,
    jit_options: Mapping[str, Any] | None = None,
    skip_jit_warnings: bool = False,
    num_chains: int = 1,
    init_strategy: InitStrategy | None = None,
    initial_params: Mapping[str, Tensor] | None = None,
) -> tuple[dict[str, Tensor], Callable[[Mapping[str, Tensor]], Tensor], dict[str, Any], Any]:
    """Return starting values, the potential, the transforms and a trace of a model.

    :returns: unconstrained values by site (with a leading dimension if there are several chains), a function
        from such values to the negative log density, maps from constrained to unconstrained values by site,
        and a trace.
    """
    seed = draw_seed()
    density = Density(
        model, model_args, model_kwargs, transforms=transforms, init_strategy=init_strategy, seed=seed
    )
    if initial_params is None:
        key = random.key(seed)
        starts = torch.stack(
            [find_start(density, random.fold_in(key, chain), init_strategy) for chain in range(num_chains)]
        )
        initial_params = density.layout.split(starts[0] if num_chains == 1 else starts)
    values = {name: value.to(density.layout.blocks[name].dtype) for name, value in initial_params.items()}

    def potential_fn(params: Mapping[str, Tensor]) -> Tensor:
        """Return the negative log density at unconstrained values, connected to autograd."""
        parts = [params[name].to(torch.float64).reshape(-1) for name in density.layout.blocks]
        return -density.log_density(torch.cat(parts))

    return values, potential_fn, unconstraining(density), density.sites.trace
