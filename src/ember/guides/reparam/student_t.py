"""Write Student's t distribution as a normal one of random scale."""

from __future__ import annotations

from ember.distributions import Gamma, Normal, StudentT
from ember.guides.reparam.refusal import refuse
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class StudentTReparam(Reparam):
    """Draw ``NAME_gamma`` from Gamma(df/2, df/2); the site is normal with the scale over its root.

    Observed sites are rewritten too: their likelihood becomes normal.
    """

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site.

        :raises ValueError: unless the site's distribution is StudentT.
        """
        fn, event_dim = self._unwrap(msg["fn"])
        if not isinstance(fn, StudentT):
            refuse(self, msg, "StudentT")
        half = (fn.df * 0.5).expand(fn.batch_shape)
        gamma = sample(
            f"{msg['name']}_gamma", Gamma(half, half).to_event(event_dim), infer={"is_observed": False}
        )
        new = Normal(fn.loc, fn.scale * gamma.rsqrt()).to_event(event_dim)
        return {"fn": new, "value": msg["value"], "is_observed": msg["is_observed"]}
