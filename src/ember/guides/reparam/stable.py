"""Write stable variables by uniform and exponential ones, exactly or as normal ones of random scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ember.distributions import Exponential, Normal, Stable, Uniform
from ember.distributions.stable import expm1_ratio, rest_over_tan, standard_stable
from ember.guides.reparam.refusal import refuse
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class LatentStableReparam(Reparam):
    """Draw ``NAME_uniform`` and ``NAME_exponential``, and compute the site from them.

    For latent sites, of any skew (Chambers, Mallows & Stuck 1976).
    """

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site.

        :raises ValueError: if the site is observed, or its distribution is not Stable.
        """
        fn, event_dim = self._unwrap(msg["fn"])
        if not isinstance(fn, Stable) or msg["is_observed"]:
            refuse(self, msg, "a latent site with a Stable distribution")
        value = fn.transform(*_auxiliary(msg["name"], fn, event_dim))
        return {"fn": None, "value": value, "is_observed": True}


class SymmetricStableReparam(Reparam):
    """Draw ``NAME_uniform`` and ``NAME_exponential``; given these, the site is normal around its location.

    For latent or observed sites without skew: a normal variable of totally skewed stable variance is stable.
    """

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site.

        :raises ValueError: if the site's distribution is not Stable, or is skewed.
        """
        fn, event_dim = self._unwrap(msg["fn"])
        if not isinstance(fn, Stable):
            refuse(self, msg, "Stable")
        if fn._validate_args and bool((fn.skew != 0).any()):
            refuse(self, msg, "Stable without skew (else use StableReparam)")
        scale = normal_scale(fn.stability, *_auxiliary(msg["name"], fn, event_dim))
        new = Normal(fn.loc, fn.scale * scale).to_event(event_dim)
        return {"fn": new, "value": msg["value"], "is_observed": msg["is_observed"]}


class StableReparam(Reparam):
    """Draw ``NAME_z_uniform``, ``NAME_z_exponential`` and ``NAME_t_…`` likewise; then it is normal.

    For latent or observed sites of any skew β: the sum of a symmetric variable of scale (1 - abs β)^(1/α),
    which is normal given the z sites, and a totally skewed one of scale (abs β)^(1/α), made of the t sites.
    """

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site.

        :raises ValueError: if the site's distribution is not Stable.
        """
        fn, event_dim = self._unwrap(msg["fn"])
        if not isinstance(fn, Stable):
            refuse(self, msg, "Stable")
        name, alpha, beta = msg["name"], fn.stability, fn.skew
        spread = normal_scale(alpha, *_auxiliary(f"{name}_z", fn, event_dim))
        skewed = standard_stable(alpha, torch.ones_like(beta), *_auxiliary(f"{name}_t", fn, event_dim))
        tiny = torch.finfo(beta.dtype).tiny
        size, rest = beta.abs(), 1.0 - alpha
        log_size = size.clamp(min=tiny).log()
        part = (log_size / alpha).exp() * beta.sign()
        # In S0 coordinates locations of summands do not add up; smooth in α at 1.
        shift = beta * rest_over_tan(rest) * log_size / alpha * expm1_ratio(rest / alpha * log_size)
        loc = fn.loc + fn.scale * (part * skewed + shift + fn.shift())
        symmetric = (1.0 - size).clamp(min=tiny).pow(alpha.reciprocal())
        new = Normal(loc, fn.scale * symmetric * spread).to_event(event_dim)
        return {"fn": new, "value": msg["value"], "is_observed": msg["is_observed"]}


def _auxiliary(prefix: str, fn: Stable, event_dim: int) -> tuple[Tensor, Tensor]:
    """Draw an angle in (-π/2, π/2) and a standard exponential number."""
    edge = torch.full_like(fn.loc, 0.5 * math.pi).detach()
    latent = {"is_observed": False}
    angle = sample(f"{prefix}_uniform", Uniform(-edge, edge).to_event(event_dim), infer=dict(latent))
    rate = torch.ones_like(edge)
    return angle, sample(f"{prefix}_exponential", Exponential(rate).to_event(event_dim), infer=dict(latent))


def normal_scale(stability: Tensor, angle: Tensor, exponential: Tensor) -> Tensor:
    """Return the scale with which a normal variable becomes a standard symmetric stable one.

    It is √(2 A) for a positive stable A of stability a = α / 2, by the formula of Kanter (1975).
    """
    tiny = torch.finfo(angle.dtype).tiny
    a, v = 0.5 * stability, angle + 0.5 * math.pi
    rest = 1.0 - a
    log_variance = (
        (a * v).sin().clamp(min=tiny).log()
        - v.sin().clamp(min=tiny).log() / a
        + rest / a * ((rest * v).sin().clamp(min=tiny).log() - exponential.clamp(min=tiny).log())
    )
    return math.sqrt(2.0) * (0.5 * log_variance).exp()
