"""Estimate the evidence lower bound with analytic divergences where they are known."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from ember import settings
from ember.distributions import kl_divergence
from ember.distributions.scaling import is_identically_zero, scale_and_mask
from ember.errors import message
from ember.infer.objectives.elbo import ELBO
from ember.poutine.trace_struct import Trace


class TraceMeanField_ELBO(ELBO):
    """The bound E_q[log p(x|z)] − KL(q ‖ p), with KL in closed form for each site that allows it.

    A site allows it if ``kl_divergence`` knows its two distributions, and model and guide scale and mask it
    alike; otherwise the site's log ratio is estimated by its draw. So it is, with a warning, where the closed
    form might be wrong: where the model's distribution of the site could depend on later draws of the guide.

    :raises ValueError: if a latent site of the guide is not reparameterised.
    """

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return the bound, which is its own surrogate."""
        bound: Any = 0.0
        analytic: set[str] = set()
        uncertain = _out_of_order(model_trace, guide_trace)
        for name, site in guide_trace.nodes.items():
            if site["type"] != "sample":
                continue
            if not is_identically_zero(site["score_parts"].score_function):
                _refuse(name, site)
            divergence = None if name in uncertain else _divergence(site, model_trace.nodes.get(name))
            if divergence is None:
                bound = bound - site["log_prob_sum"]
            else:
                analytic.add(name)
                bound = bound - divergence
        for name, site in model_trace.nodes.items():
            if site["type"] == "sample" and name not in analytic:
                bound = bound + site["log_prob_sum"]
        return bound, bound


def _out_of_order(model_trace: Trace, guide_trace: Trace) -> set[str]:
    """Return the sites whose closed form might be wrong; warns of those where it is.

    Before such a site the model has read a draw that the guide makes later, and that depends on the site's.
    """
    draws = {name: site["value"] for name, site in guide_trace.nodes.items() if _is_latent(site)}
    places = {name: place for place, name in enumerate(draws)}
    read: list[str] = []
    found: set[str] = set()
    wrong: dict[str, str] = {}
    for name, site in model_trace.nodes.items():
        if name not in draws or not _is_latent(site):
            continue
        later = [each for each in read if places[each] > places[name]]
        reached = [each for each in later if _depends(draws[each], draws[name])]
        if reached:
            wrong[name] = reached[0]
        if reached or (later and draws[name].grad_fn is None):  # without a graph it cannot be known
            found.add(name)
        read.append(name)
    if wrong and settings.read("validate_infer"):
        name, other = next(iter(wrong.items()))
        warnings.warn(
            message(
                f"the guide's '{other}' depends on '{name}', which the model draws later: a divergence in "
                "closed form would be wrong, so the log ratio of the draws is taken",
                site=name,
                expected=f"the order of the model: {', '.join(read)}",
                actual=f"the order of the guide: {', '.join(draws)}",
                fix="let the guide draw its sites in the model's order, or use Trace_ELBO",
            ),
            UserWarning,
            stacklevel=6,
        )
    return found


def _depends(draw: Tensor, earlier: Tensor) -> bool:
    """Say whether gradients would flow from a draw to an earlier one."""
    waiting, seen = [draw.grad_fn], set()
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        if function is earlier.grad_fn:
            return True
        seen.add(function)
        waiting.extend(each for each, _ in function.next_functions)
    return False


def _is_latent(site: Any) -> bool:
    return site["type"] == "sample" and not site["is_observed"] and type(site["fn"]).__name__ != "_Subsample"


def _divergence(guide_site: Any, model_site: Any) -> Any:
    """Return the summed divergence of a site, or None if there is no closed form."""
    if guide_site["is_observed"] or model_site is None or model_site["is_observed"]:
        return None
    if (
        guide_site["scale"] is not model_site["scale"] and guide_site["scale"] != model_site["scale"]
    ) or guide_site["mask"] is not model_site["mask"]:
        return None
    try:
        divergence = kl_divergence(guide_site["fn"], model_site["fn"])
    except NotImplementedError:
        return None
    return scale_and_mask(divergence, guide_site["scale"], guide_site["mask"]).sum()


def _refuse(name: str, site: Any) -> None:
    raise ValueError(
        message(
            f"TraceMeanField_ELBO needs reparameterised sites, and '{name}' is not",
            site=name,
            plates=site["cond_indep_stack"],
            actual=f"a draw from {site['fn']}",
            fix="use Trace_ELBO, which has a score-function term for such sites",
        )
    )
