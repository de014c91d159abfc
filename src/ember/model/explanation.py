"""Let the engine explain models: their density with its gradient, site by site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ember.engine import explanation, random
from ember.model.density import Density
from ember.model.start import find_start
from ember.poutine.trace_messenger import TraceMessenger


def explain_model(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> explanation.Subject | None:
    """Return the density of a model with its gradient, or None for a function without latent sites."""
    with TraceMessenger() as recorder:
        model(*args, **kwargs)
    if not recorder.trace.stochastic_nodes:
        return None
    density = Density(model, args, kwargs)
    start = find_start(density, random.key(0))

    def gradient(z: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return density.value_and_gradient(z, inputs)

    title = f"{getattr(model, '__name__', 'model')}: log density and gradient, {density.size} dimensions"
    if density.enumeration is not None:
        title += f"\n  {density.sums.text}"
    return explanation.Subject(title, gradient, (start, *density.inputs))


explanation.adapters.append(explain_model)
