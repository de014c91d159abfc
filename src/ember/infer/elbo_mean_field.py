"""Estimate the evidence lower bound with analytic divergences where they are known."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ember.distributions import kl_divergence
from ember.distributions.scaling import is_identically_zero, scale_and_mask
from ember.errors import message
from ember.infer.elbo import ELBO
from ember.poutine.trace_struct import Trace


class TraceMeanField_ELBO(ELBO):
    """The bound E_q[log p(x|z)] − KL(q ‖ p), with KL in closed form for each site that allows it.

    A site allows it if ``kl_divergence`` knows its two distributions, and model and guide scale and mask it
    alike; otherwise the site's log ratio is estimated by its draw. The closed form is right if each site's
    distributions do not depend on draws downstream (mean-field guides in the model's order).

    :raises ValueError: if a latent site of the guide is not reparameterised.
    """

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return the bound, which is its own surrogate."""
        bound: Any = 0.0
        analytic: set[str] = set()
        for name, site in guide_trace.nodes.items():
            if site["type"] != "sample":
                continue
            if not is_identically_zero(site["score_parts"].score_function):
                _refuse(name, site)
            divergence = _divergence(site, model_trace.nodes.get(name))
            if divergence is None:
                bound = bound - site["log_prob_sum"]
            else:
                analytic.add(name)
                bound = bound - divergence
        for name, site in model_trace.nodes.items():
            if site["type"] == "sample" and name not in analytic:
                bound = bound + site["log_prob_sum"]
        return bound, bound


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
