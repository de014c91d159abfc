"""Refuse models that have no density with a gradient, and inspect the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from ember.errors import message
from ember.model.evaluation import double_precision
from ember.model.initialisation import InitStrategy
from ember.model.inspection import Site, SiteTable, inspect_model


def split_latents(table: SiteTable, sum_discrete: bool = True) -> tuple[list[Site], list[Site]]:
    """Return the continuous latent sites, and the discrete ones that can be summed out.

    :param sum_discrete: False to refuse discrete sites altogether.
    :raises ValueError: if there is no continuous one, or a discrete one of infinite or unknown support.
    """
    _warn_of_minibatches(table)
    latents = table.of_kind("latent")
    discrete = [site for site in latents if site.is_discrete or site.support is None]
    _refuse_discrete([site for site in discrete if not getattr(site.fn, "has_enumerate_support", False)])
    if len(discrete) == len(latents) or not sum_discrete:
        _refuse_discrete(discrete)
    if not latents:
        raise ValueError(
            message(
                "the model has no latent site, so there is nothing to infer",
                expected="at least one sample statement without obs",
                actual=", ".join(f"{site.name} ({site.kind})" for site in table.values()) or "no sites",
            )
        )
    return [site for site in latents if site not in discrete], discrete


def _warn_of_minibatches(table: SiteTable) -> None:
    for site in table.of_kind("subsample"):
        size, full = int(site.fn.subsample_size), int(site.fn.size)
        if size < full:
            warnings.warn(
                message(
                    f"the plate '{site.name}' subsamples, and this posterior is that of one minibatch",
                    site=site.name,
                    expected=f"all {full} elements",
                    actual=f"{size} elements, the same ones throughout, each counted {full / size:g} times",
                    fix="leave subsample_size out, or fit the model by SVI",
                    where=site.where,
                ),
                UserWarning,
                stacklevel=2,
            )


def inspect_in_any_precision(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    init_strategy: InitStrategy | None,
    seed: int | None,
) -> SiteTable:
    """Inspect a model, with its constants raised to float64 if it fails otherwise."""
    try:
        return inspect_model(model, args, kwargs, init_strategy, seed)
    except torch.linalg.LinAlgError:
        raise
    except RuntimeError as error:
        # Perhaps the model multiplies float64 data with draws of the default dtype.
        try:
            with double_precision(promote=True, validate=True):
                return inspect_model(model, args, kwargs, init_strategy, seed)
        except Exception:
            raise error from None


def _refuse_discrete(sites: list[Site]) -> None:
    if not sites:
        return
    listed = "; ".join(
        f"'{site.name}' ~ {type(_innermost(site.fn)).__name__}{f' ({site.where})' if site.where else ''}"
        for site in sites
    )
    names = ", ".join(f"'{site.name}'" for site in sites)
    raise ValueError(
        message(
            f"discrete latent sites cannot be sampled by gradients: {listed}",
            site=sites[0].name,
            plates=sites[0].plates,
            expected="a continuous latent site, and discrete ones only of finite support, to be summed out",
            actual=f"no density with a gradient at {names}",
            fix="let those of finite support be summed out (sum_discrete=True), sum them out by hand "
            "(e.g. MixtureSameFamily, or logsumexp in a factor), or observe them",
            where=sites[0].where,
        )
    )


def _innermost(fn: Any) -> Any:
    while hasattr(fn, "base_dist") and type(fn).__name__ in (
        "Independent",
        "ExpandedDistribution",
        "MaskedDistribution",
    ):
        fn = fn.base_dist
    return fn
