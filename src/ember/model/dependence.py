"""Find which latent values the density of each site of a model depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ember import poutine
from ember.poutine.runtime import CondIndepStackFrame


class Dependence(NamedTuple):
    """What the density of one site depends on."""

    site: str
    plates: tuple[CondIndepStackFrame, ...]  # those of the site that are batch dims
    upstream: tuple[str, ...]  # latent sites, itself left out


def find_dependences(
    model: Callable[..., Any],
    values: Mapping[str, Tensor],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> list[Dependence]:
    """Return what the density of each sample site depends on, in the order of execution.

    The model runs once, and the paths of differentiation are followed: what passes through ``detach`` or
    through integers is not seen.

    :param values: values of the continuous latent sites by name, the only ones that are looked for.
    """
    with torch.enable_grad(), poutine.block():
        leaves = {name: value.detach().clone().requires_grad_() for name, value in values.items()}
        conditioned = poutine.condition(model, data=leaves)
        trace = poutine.trace(conditioned).get_trace(*args, **(kwargs or {}))
        trace.compute_log_prob()
        found = []
        for name, site in trace.nodes.items():
            if site["type"] != "sample" or type(site["fn"]).__name__ == "_Subsample":
                continue
            plates = tuple(frame for frame in site["cond_indep_stack"] if frame.vectorized)
            reached = _reached(torch.as_tensor(site["log_prob_sum"]), leaves)
            found.append(Dependence(name, plates, tuple(each for each in reached if each != name)))
    return found


def _reached(total: Tensor, leaves: dict[str, Tensor]) -> list[str]:
    if not total.requires_grad or not leaves:
        return []
    slopes = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, retain_graph=True)
    return [name for name, slope in zip(leaves, slopes, strict=True) if slope is not None]
