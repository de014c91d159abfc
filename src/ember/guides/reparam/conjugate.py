"""Draw a site from its prior updated by a guess of its likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ember.distributions import Delta, Distribution
from ember.guides.reparam.refusal import refuse
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class ConjugateReparam(Reparam):
    """Draw ``NAME_updated`` from the prior fused with a guess of the likelihood, then undo the guess.

    The density of the model stays the same, whatever the guess; a good one leaves little to explain.

    :param guide: a distribution proportional to the likelihood, conjugate to the prior, or a function of the
        model's arguments that returns one.
    """

    def __init__(self, guide: Distribution | Callable[..., Distribution]) -> None:
        self.guide = guide

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site.

        :raises ValueError: if the site is observed, or has a value already.
        """
        if msg["is_observed"] or msg["value"] is not None:
            refuse(self, msg, "a latent site without a value")
        guide: Any = self.guide
        if not isinstance(guide, Distribution):
            args, kwargs = self.args_kwargs or ((), {})
            guide = guide(*args, **kwargs)
        fn = msg["fn"]
        updated, log_normalizer = fn.conjugate_update(guide)
        value = sample(f"{msg['name']}_updated", updated, infer={"is_observed": False})
        # prior × guide = normaliser × updated
        log_density = log_normalizer - guide.log_prob(value)
        return {
            "fn": Delta(value, log_density, event_dim=fn.event_dim),
            "value": value,
            "is_observed": True,
        }
