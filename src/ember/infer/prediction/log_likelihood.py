"""Compute the log likelihood of each observation under each posterior draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ember.distributions.scaling import scale_and_mask
from ember.errors import message
from ember.infer.prediction.shapes import (
    chunks,
    common_lead,
    fit_to_site,
    join_chunks,
    run_prototype,
    sample_sites,
    vectorized,
    with_draws,
)
from ember.model.inspection import kind_of
from ember.poutine import condition, trace
from ember.poutine.trace_struct import Trace


@torch.no_grad()
def log_likelihood(
    model: Callable[..., Any],
    posterior_samples: Mapping[str, Tensor],
    *args: Any,
    parallel: bool = False,
    batch_ndims: int = 1,
    batch_size: int | None = None,
    **kwargs: Any,
) -> dict[str, Tensor]:
    """Return log likelihoods by observed site, ``[draws, ...]`` with the site's batch shape.

    This is what ArviZ compares models by::

        arviz.from_dict(posterior=..., log_likelihood={"y": log_likelihood(model, draws, data)["y"].numpy()})

    Masks count, scales of plates do not; deterministic sites and factors are left out.

    :param model: the model; the other arguments are its own, with the data.
    :param posterior_samples: draws of all latent sites, ``[draws, ...]``.
    :param parallel: run the model once for many draws, under an outermost plate; the model must broadcast.
    :param batch_ndims: number of leading dims that count draws, e.g. 2 for chains by draws.
    :param batch_size: with ``parallel``, the largest number of draws in one run; by default all.
    :raises ValueError: if draws of a latent site are missing, or a plate subsamples observations.
    """
    samples = dict(posterior_samples)
    lead = common_lead(samples, batch_ndims)
    if lead is None:
        raise ValueError("log_likelihood needs draws of the latent sites, and posterior_samples is empty")
    if batch_size is not None and not batch_size > 0:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    flat = {name: value.reshape(-1, *value.shape[batch_ndims:]) for name, value in samples.items()}
    prototype = run_prototype(model, args, kwargs)
    _check(prototype, flat)

    def one(count: int, part: dict[str, Tensor]) -> dict[str, Tensor]:
        if parallel:
            run = vectorized(model, part, count, prototype)
        else:
            nodes = prototype.nodes
            values = {name: fit_to_site(value[0], nodes.get(name)) for name, value in part.items()}
            run = condition(model, values)
        return _pointwise(trace(run).get_trace(*args, **kwargs), count, prototype)

    step = batch_size if parallel else 1
    found = join_chunks(one(count, part) for count, part in chunks(flat, lead.numel(), step))
    return {name: value.reshape(lead + value.shape[1:]) for name, value in found.items()}


def _check(prototype: Trace, samples: dict[str, Tensor]) -> None:
    for name, site in sample_sites(prototype).items():
        kind = kind_of(site)
        if kind == "latent" and name not in samples:
            raise ValueError(
                message(
                    f"posterior_samples has no draws of the latent site '{name}'",
                    site=name,
                    expected="draws of all latent sites",
                    actual=", ".join(samples),
                    fix="add draws of the site, or sum it out of the model",
                )
            )
        for frame in site["cond_indep_stack"]:
            if kind == "observed" and frame.full_size not in (None, frame.size):
                raise ValueError(
                    message(
                        f"the plate '{frame.name}' draws a minibatch, so that draws would see different data",
                        site=name,
                        plates=site["cond_indep_stack"],
                        fix="run the model on all data, without subsample_size",
                    )
                )


def _pointwise(run: Trace, count: int, prototype: Trace) -> dict[str, Tensor]:
    found = {}
    for name, known in sample_sites(prototype).items():
        # In the prototype the latent sites are not conditioned.
        if kind_of(known) == "observed":
            site = run.nodes[name]
            terms = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
            terms = scale_and_mask(terms, 1.0, site["mask"])
            found[name] = with_draws(terms, (count,), known["fn"].batch_shape)
    return found
