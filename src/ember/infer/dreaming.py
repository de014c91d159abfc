"""Score draws of a model by a guide that sees their data: the sleep phase, and compiled inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.errors import message
from ember.guides.checks import remove_subsample_sites
from ember.poutine.trace_struct import Trace


def observations_of(kwargs: dict[str, Any], who: str, fix: str) -> dict[str, Any]:
    """Return the dict of data by site name among a program's keyword arguments.

    :param who: what needs it, for the text.
    :raises ValueError: if there is none.
    """
    observations = kwargs.get("observations")
    if not isinstance(observations, dict):
        raise ValueError(
            message(
                f"{who} needs data by site name",
                expected="model and guide called with observations={'x': data, ...}",
                actual=f"observations={observations!r}",
                fix=fix,
            )
        )
    return observations


def dream(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    """Draw all sites of a model, those with data too."""
    with torch.no_grad():
        return poutine.trace(poutine.uncondition(model)).get_trace(*args, **kwargs)


def log_prob_of_dream(guide: Any, dreamt: Trace, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return log q(z | x), where both z and x were drawn by the model.

    :raises ValueError: if the model has no site of a name among the observations.
    """
    names = kwargs["observations"]
    seen = {name: _value(dreamt, name) for name in names}
    latent = dreamt.copy()
    for name in names:
        latent.remove_node(name)
    replayed = poutine.replay(guide, trace=latent)
    trace = poutine.trace(replayed).get_trace(*args, **{**kwargs, "observations": seen})
    remove_subsample_sites(trace)
    return trace.log_prob_sum()


def _value(dreamt: Trace, name: str) -> Tensor:
    if name in dreamt.nodes and dreamt.nodes[name]["type"] == "sample":
        return dreamt.nodes[name]["value"]
    raise ValueError(
        message(
            f"the model has no site '{name}', which is among the observations",
            site=name,
            expected="observations named like the model's observed sites",
            actual=", ".join(repr(each) for each in dreamt.nodes if not each.startswith("_")),
        )
    )
