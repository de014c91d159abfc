"""Compute relaxed discrete sites from uniform noise."""

from __future__ import annotations

import torch

from ember.distributions import RelaxedBernoulli, RelaxedOneHotCategorical, Uniform
from ember.guides.reparam.refusal import kept, refuse
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class GumbelSoftmaxReparam(Reparam):
    """Draw ``NAME_uniform`` and compute the site (Jang, Gu & Poole 2017, arXiv 1611.01144)."""

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site; observed sites stay as they are.

        :raises ValueError: unless the site's distribution is a relaxed Bernoulli or categorical one.
        """
        if msg["is_observed"]:
            return kept(msg)
        fn, _ = self._unwrap(msg["fn"])
        # Not their subclasses, whose draws are hard.
        if type(fn) not in (RelaxedBernoulli, RelaxedOneHotCategorical):
            refuse(self, msg, "RelaxedBernoulli or RelaxedOneHotCategorical")
        logits = fn.logits
        zero, one = torch.zeros_like(logits), torch.ones_like(logits)
        noise = sample(
            f"{msg['name']}_uniform",
            Uniform(zero, one).to_event(msg["fn"].event_dim),
            infer={"is_observed": False},
        )
        tiny = torch.finfo(noise.dtype).tiny
        noise = noise.clamp(min=tiny, max=1 - torch.finfo(noise.dtype).eps / 2)
        if isinstance(fn, RelaxedBernoulli):
            value = ((logits + noise.log() - torch.log1p(-noise)) / fn.temperature).sigmoid()
        else:
            value = ((logits - (-noise.log()).log()) / fn.temperature).softmax(-1)
        return {"fn": None, "value": value, "is_observed": True}
