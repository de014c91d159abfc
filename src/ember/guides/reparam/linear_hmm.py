"""Write linear chains with any noise as chains that are Gaussian given auxiliary variables."""

from __future__ import annotations

from typing import Any

from ember.distributions import GaussianHMM, IndependentHMM, LinearHMM, TransformedDistribution
from ember.distributions.shapes import broadcast_shape
from ember.guides.reparam.refusal import refuse
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult


class LinearHMMReparam(Reparam):
    """Rewrite each noise of a LinearHMM by a strategy of its own; what remains is a GaussianHMM.

    Transforms of the observations are applied to the GaussianHMM. The sites of the strategies are named after
    ``NAME_init``, ``NAME_trans`` and ``NAME_obs``.

    :param init: for the initial distribution, e.g. ``SymmetricStableReparam()``; None if it is Gaussian.
    :param trans: for the noise of the states.
    :param obs: for the noise of the observations.
    """

    def __init__(
        self, init: Reparam | None = None, trans: Reparam | None = None, obs: Reparam | None = None
    ) -> None:
        self.init = init
        self.trans = trans
        self.obs = obs

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site.

        :raises ValueError: if the site's distribution is not a LinearHMM, or its length is not known.
        """
        fn, event_dim = self._unwrap(msg["fn"])
        joined = isinstance(fn, IndependentHMM)
        chain = fn.base_dist if joined else fn
        if not isinstance(chain, LinearHMM):
            refuse(self, msg, "LinearHMM, or IndependentHMM of one")
        value = msg["value"]
        duration = chain.duration if value is None or chain.duration else value.shape[-2 - event_dim]
        if duration is None:
            refuse(self, msg, "a LinearHMM with a duration")
        # Batch dims that are event dims of the site are so of the auxiliary sites, too.
        extra = event_dim + (1 if joined else 0)
        steps = (*chain.batch_shape, duration)
        new: Any = GaussianHMM(
            self._part(self.init, f"{msg['name']}_init", chain.initial_dist.expand(chain.batch_shape), extra),
            chain.transition_matrix,
            self._part(self.trans, f"{msg['name']}_trans", chain.transition_dist.expand(steps), extra + 1),
            chain.observation_matrix,
            self._part(self.obs, f"{msg['name']}_obs", chain.observation_dist.expand(steps), extra + 1),
            duration=duration,
        )
        # Plates outside of this handler may have given the auxiliary sites further batch dims.
        shape = broadcast_shape(new.batch_shape, chain.batch_shape)
        if new.batch_shape != shape:
            new = new.expand(shape)
        if joined:
            new = IndependentHMM(new)
        if chain.transforms:
            new = TransformedDistribution(new, chain.transforms)
        return {"fn": new.to_event(event_dim), "value": value, "is_observed": msg["is_observed"]}

    def _part(self, reparam: Reparam | None, name: str, fn: Any, moved: int) -> Any:
        """Rewrite one noise, whose rightmost ``moved`` batch dims count as event dims meanwhile."""
        if reparam is None:
            return fn
        reparam.args_kwargs = self.args_kwargs
        new = reparam.apply({"name": name, "fn": fn.to_event(moved), "value": None, "is_observed": False})
        if new["fn"] is None:
            refuse(
                self,
                {"name": name, "fn": fn, "value": None, "is_observed": False},
                "a strategy that leaves a normal distribution, such as StableReparam",
            )
        return new["fn"].to_event(-moved)
