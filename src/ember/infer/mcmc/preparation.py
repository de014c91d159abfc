"""Find where chains start, from models, potential functions, and the values that users give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions.transforms import identity_transform

from ember.engine import random
from ember.errors import message
from ember.infer.mcmc.potential import PotentialDensity
from ember.model.density import Density
from ember.model.initialisation import InitStrategy
from ember.model.start import Evaluate, check_start, find_start

_STARTS = 1 << 40  # stream of a run's key beside its chains 0, 1, 2, …


def from_potential(
    potential_fn: Callable[..., Tensor],
    transforms: Mapping[str, Any] | None,
    initial_params: Mapping[str, Tensor] | None,
    num_chains: int,
) -> tuple[PotentialDensity, Tensor]:
    """Return the density of a potential function and first positions ``[num_chains, D]``.

    :raises ValueError: without starting values.
    """
    if initial_params is None:
        raise ValueError(
            message(
                "a potential_fn needs starting values",
                expected="initial_params, unconstrained values by site",
                actual="none",
                fix="MCMC(kernel, ..., initial_params={'x': ...})",
            )
        )
    example = {name: value if num_chains == 1 else value[0] for name, value in initial_params.items()}
    density = PotentialDensity(potential_fn, example, transforms)
    return density, density.layout.join(initial_params).reshape(num_chains, density.size)


def first_positions(
    density: Density,
    evaluate: Evaluate,
    initial_params: Mapping[str, Tensor] | None,
    strategy: InitStrategy | None,
    num_chains: int,
    seed: int,
) -> Tensor:
    """Return first positions ``[num_chains, D]``, the given ones or found ones.

    :param evaluate: the density, as it is to be evaluated.
    :raises InitialisationError: if density or gradient are not finite there, or nowhere where it was tried.
    """
    if initial_params is not None:
        starts = density.layout.join(initial_params).reshape(num_chains, density.size)
        for start in starts:
            check_start(density, start, evaluate)
        return starts
    key = random.fold_in(random.key(seed), _STARTS)
    return torch.stack(
        [
            find_start(density, random.fold_in(key, chain), strategy, evaluate=evaluate)
            for chain in range(num_chains)
        ]
    )


def unconstraining(density: Density | PotentialDensity) -> dict[str, Any]:
    """Return the map from constrained to unconstrained values of each site."""
    return {
        name: identity_transform if block.transform is None else block.transform.inv
        for name, block in density.layout.blocks.items()
    }


def require(holds: bool, name: str, expected: str, actual: Any) -> None:
    """Raise ValueError for an option out of range."""
    if not holds:
        raise ValueError(message(f"invalid {name}", expected=expected, actual=f"{name}={actual!r}"))


def coordinates(density: Density | PotentialDensity, names: Sequence[str]) -> tuple[int, ...]:
    """Return the places of some sites' elements in the flat vector."""
    places: list[int] = []
    for name in names:
        block = density.layout.blocks.get(name)
        if block is None:
            raise ValueError(
                message(
                    f"full_mass names '{name}', which is not a latent site",
                    expected=f"tuples of some of: {', '.join(density.layout.blocks)}",
                    actual=tuple(names),
                )
            )
        places.extend(range(block.start, block.stop))
    return tuple(places)
