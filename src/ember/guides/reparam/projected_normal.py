"""Draw directions by projecting normal vectors."""

from __future__ import annotations

import torch

from ember.distributions import Normal, ProjectedNormal
from ember.guides.reparam.refusal import kept, refuse
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class ProjectedNormalReparam(Reparam):
    """Draw ``NAME_normal`` around the concentration vector; the site is its direction."""

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site; observed sites stay as they are.

        :raises ValueError: unless the site's distribution is ProjectedNormal.
        """
        if msg["is_observed"]:
            return kept(msg)
        fn, _ = self._unwrap(msg["fn"])
        if not isinstance(fn, ProjectedNormal):
            refuse(self, msg, "ProjectedNormal")
        loc = fn.concentration
        vector = sample(
            f"{msg['name']}_normal",
            Normal(loc, torch.ones_like(loc)).to_event(msg["fn"].event_dim),
            obs=msg["value"],  # a starting value is its own projection
            infer={"is_observed": False},
        )
        length = vector.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(vector.dtype).tiny)
        return {"fn": None, "value": vector / length, "is_observed": True}
