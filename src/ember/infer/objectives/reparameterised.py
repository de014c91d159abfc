"""Refuse sites without pathwise gradients, for objectives that have no score-function terms."""

from __future__ import annotations

from typing import Any

from ember.errors import message


def refuse_scored(objective: str, name: str, site: Any) -> None:
    """Raise ValueError unless the draw at a site carries gradients to its distribution's parameters.

    :param objective: name of the objective, for the text.
    """
    if getattr(site["fn"], "has_rsample", False):
        return
    raise ValueError(
        message(
            f"{objective} needs reparameterised sites, and '{name}' is not",
            site=name,
            plates=site["cond_indep_stack"],
            actual=f"a draw from {site['fn']}",
            fix="use an objective with score-function terms for such sites, such as RenyiELBO or Trace_ELBO",
        )
    )
