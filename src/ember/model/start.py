"""Find where a chain can start: a point at which log density and gradient are finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ember.engine import random
from ember.errors import InitialisationError, message
from ember.model.density import Density
from ember.model.evaluation import double_precision
from ember.model.initialisation import InitMessenger, InitStrategy
from ember.model.substitution import SubstituteMinibatches
from ember.poutine import trace as trace_handler

Evaluate: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Vector → log density and gradient."""

MAX_TRIES = 100
# Where a gradient is so large no step size is both accepted and of any use: such a start is taken only if
# many others are no better.
STEEP = 1e6
MAX_STEEP_TRIES = 20


def find_start(
    density: Density,
    key: Tensor,
    strategy: InitStrategy | None = None,
    radius: float = 2.0,
    max_tries: int = MAX_TRIES,
    evaluate: Evaluate | None = None,
) -> Tensor:
    """Return a vector with finite log density and gradient, ``[size]``, if possible not too steep.

    :param key: of the random numbers; equal keys give equal starts.
    :param strategy: site record → constrained value; by default uniform on (−radius, radius) in unconstrained
        space.
    :param evaluate: a quicker way to evaluate the density, if there is one.
    :raises InitialisationError: if none is found in ``max_tries``, naming the first site that is to blame.
    """
    z = torch.zeros(density.size, dtype=torch.float64)
    steepest = torch.inf
    gentlest: Tensor | None = None
    for attempt in range(max_tries):
        attempt_key = random.fold_in(key, attempt)
        if strategy is None:
            z = (2.0 * random.uniform(attempt_key, (density.size,)) - 1.0) * radius
        else:
            z = _from_strategy(density, attempt_key, strategy)
        value, gradient = (evaluate or density)(z)
        # NaN is below nothing, so that such a start is never taken.
        slope = float(torch.linalg.vector_norm(gradient, torch.inf)) if bool(value.isfinite()) else torch.inf
        if slope < STEEP:
            return z
        if slope < steepest:
            steepest, gentlest = slope, z
        if gentlest is not None and attempt >= MAX_STEEP_TRIES:
            break
    if gentlest is not None:
        return gentlest
    raise InitialisationError(_explain(density, z, max_tries))


def check_start(density: Density, z: Tensor, evaluate: Evaluate | None = None) -> None:
    """Raise InitialisationError if the log density or its gradient is not finite at a given point."""
    if not is_valid(evaluate or density, z):
        raise InitialisationError(_explain(density, z, 1))


def is_valid(density: Any, z: Tensor) -> bool:
    """Say whether log density and gradient are finite."""
    value, gradient = density(z)
    return bool(torch.isfinite(value)) and bool(torch.isfinite(gradient).all())


def _from_strategy(density: Density, key: Tensor, strategy: InitStrategy) -> Tensor:
    args, kwargs = density._arguments(None)
    model = InitMessenger(strategy)(density.model)
    # Strategies draw from torch's generator, which gets a seed of its own here and is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(random.random_bits(key, 1)) & 0x7FFFFFFFFFFFFFFF)
        with torch.no_grad(), double_precision(density._promote):
            with SubstituteMinibatches(density.minibatches):
                recorded = trace_handler(model).get_trace(*args, **kwargs)
    return density.unconstrain({name: recorded.nodes[name]["value"] for name in density.layout.blocks})


def _explain(density: Density, z: Tensor, tries: int) -> str:
    what = f"no starting point with finite log density and gradient was found in {tries} tries"
    if tries == 1:
        what = "log density or gradient is not finite at the given starting point"
    fix = (
        "check the data for NaN, the priors' scales and the support of observations, "
        "or give values by init_strategy=init_to_value(values={...})"
    )
    for name, fn, value, log_prob in density.record(z):
        if not torch.isfinite(torch.tensor(log_prob)):
            return message(
                f"{what}: the log density of site '{name}' is {log_prob}",
                site=name,
                plates=density.sites[name].plates,
                expected="a finite log density",
                actual=f"value {_excerpt(value)} under {_describe(fn)}",
                fix=fix,
                where=density.sites[name].where,
            )
    _, gradient = density(z)
    for name, part in density.layout.split(gradient).items():
        if not bool(torch.isfinite(part).all()):
            return message(
                f"{what}: the gradient with respect to site '{name}' is not finite",
                site=name,
                plates=density.sites[name].plates,
                expected="a finite gradient",
                actual=f"gradient {_excerpt(part)} at value {_excerpt(density.constrain(z)[name])}",
                fix=fix,
                where=density.sites[name].where,
            )
    return message(what, expected="finite", actual="a sum over sites that is not finite", fix=fix)


def _describe(fn: Any) -> str:
    """Name a distribution with its parameters' values."""
    while hasattr(fn, "base_dist") and not getattr(fn, "arg_constraints", None):
        fn = fn.base_dist
    shown = []
    for name in getattr(fn, "arg_constraints", {}):
        value = vars(fn).get(name)
        if isinstance(value, Tensor):
            shown.append(f"{name}={_excerpt(value)}")
    return f"{type(fn).__name__}({', '.join(shown)})"


def _excerpt(value: Any, limit: int = 5) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    flat = value.detach().reshape(-1)
    numbers = ", ".join(f"{number:.4g}" for number in flat[:limit].tolist())
    if value.ndim == 0:
        return numbers
    more = f", … {flat.numel()} in all" if flat.numel() > limit else ""
    return f"[{numbers}{more}]"
