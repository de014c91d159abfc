"""Compute the log probability of a site, and name the site when that fails."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch

from ember.distributions.scaling import scale_and_mask
from ember.errors import message


def score_site(name: str, site: Any, validate: bool) -> None:
    """Set ``unscaled_log_prob``, ``log_prob`` and ``log_prob_sum`` of a sample site.

    :param validate: warn about a sum that is NaN or +inf.
    :raises ValueError: naming the site, for a value outside the support, or shapes that do not fit.
    """
    site["unscaled_log_prob"] = log_prob = call_density(name, site, "log_prob")
    scale, mask = site["scale"], site["mask"]
    if mask is not None or type(scale) is not float or scale != 1.0:
        log_prob = weighed(name, site, functools.partial(scale_and_mask, log_prob))
    store_log_prob(name, site, log_prob, validate)


def store_log_prob(name: str, site: Any, log_prob: Any, validate: bool) -> None:
    """Set ``log_prob`` and its sum."""
    site["log_prob"] = log_prob
    site["log_prob_sum"] = total = log_prob.sum() if log_prob.ndim else log_prob
    if validate:
        warn_if_not_finite(total, f"log_prob_sum at site '{name}'", lambda: _describe_site(site))


def warn_if_not_finite(value: Any, what: str, details: Callable[[], str] | None = None) -> None:
    """Warn about NaN or +inf in ``value`` and, later, NaN in its gradient.

    −inf is a legal log probability.
    """
    if not isinstance(value, torch.Tensor):
        return
    if value.requires_grad:
        value.register_hook(lambda grad: _warn_if_nan_gradient(grad, what))
    # One test for both: NaN and +inf are what is not below +inf.
    fine = value.item() < math.inf if value.ndim == 0 else bool((value < math.inf).all())
    if not fine:
        kind = "NaN" if bool(torch.isnan(value).any()) else "+inf"
        warnings.warn(
            message(
                f"Encountered {kind}: {what}",
                actual=details() if details else None,
                fix="check the parameters and values at this site",
            ),
            stacklevel=2,
        )


def _warn_if_nan_gradient(grad: torch.Tensor, what: str) -> None:
    if math.isnan(grad.item()) if grad.ndim == 0 else bool(torch.isnan(grad).any()):
        warnings.warn(message(f"Encountered NaN: gradient of {what}"), stacklevel=2)


def _describe_site(site: Any) -> str:
    return f"value {_excerpt(site['value'])} under {site['fn']}"


def _excerpt(value: Any) -> str:
    text = str(value.detach() if isinstance(value, torch.Tensor) else value)
    return text if len(text) <= 200 else text[:200] + " …"


def call_density(name: str, site: Any, method: str) -> Any:
    """Call ``log_prob`` or ``score_parts`` of the site's distribution; errors get the site's name."""
    try:
        return getattr(site["fn"], method)(site["value"], *site["args"], **site["kwargs"])
    except (ValueError, RuntimeError) as error:
        raise _named(error, name, site) from error


def weighed(name: str, site: Any, apply: Callable[[Any, Any], Any]) -> Any:
    """Apply a site's scale and mask by a function of them; those that do not fit are errors with its name.

    :raises ValueError: for a scale or mask that does not broadcast with the log probability.
    """
    scale, mask = site["scale"], site["mask"]
    try:
        return apply(scale, mask)
    except RuntimeError as error:
        shapes = {
            kind: tuple(weight.shape)
            for kind, weight in (("mask", mask), ("scale", scale))
            if isinstance(weight, torch.Tensor) and weight.ndim
        }
        if not shapes:
            raise
        raise ValueError(
            message(
                f"the {' or '.join(shapes)} at site '{name}' does not broadcast with its log probability",
                site=name,
                plates=site["cond_indep_stack"],
                expected=f"what broadcasts with shape {tuple(site['unscaled_log_prob'].shape)}",
                actual=" and ".join(f"a {kind} of shape {shape}" for kind, shape in shapes.items()),
                fix="give it one element for each batch element, event dimensions left out",
            )
        ) from error


def _named(error: Exception, name: str, site: Any) -> Exception:
    batch_shape = tuple(getattr(site["fn"], "batch_shape", ()))
    event_shape = tuple(getattr(site["fn"], "event_shape", ()))
    text = message(
        f"Error while computing log_prob at site '{name}': {error}",
        site=name,
        plates=site["cond_indep_stack"],
        expected=f"a value broadcastable to batch_shape {batch_shape} + event_shape {event_shape}"
        " in the support of the distribution",
        actual=f"a value of shape {tuple(getattr(site['value'], 'shape', ()))}",
    )
    kind = ValueError if isinstance(error, ValueError) else RuntimeError
    return kind(text)
