"""Draw the base of a transformed distribution, and compute the site from it."""

from __future__ import annotations

from ember.distributions import TransformedDistribution
from ember.errors import message
from ember.guides.reparam.reparam import Reparam
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult
from ember.primitives import sample


class TransformReparam(Reparam):
    """Draw an auxiliary site ``NAME_base`` from the base distribution and transform the draw."""

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Rewrite the site; observed sites stay as they are.

        :raises ValueError: if the site's distribution is not a transformed one.
        """
        name = msg["name"]
        if msg["is_observed"]:
            return {"fn": msg["fn"], "value": msg["value"], "is_observed": True}
        outer = msg["fn"]
        fn, event_dim = self._unwrap(outer)
        if not hasattr(fn, "base_dist") or not hasattr(fn, "transforms"):
            raise ValueError(
                message(
                    f"TransformReparam cannot rewrite site '{name}'",
                    site=name,
                    expected=TransformedDistribution.__name__,
                    actual=type(fn).__name__,
                )
            )
        base = fn.base_dist.expand(fn.batch_shape + fn.base_dist.batch_shape[len(fn.batch_shape) :])
        given = msg["value"]
        if given is not None:
            for transform in reversed(fn.transforms):
                given = transform.inv(given)
        value = sample(
            f"{name}_base",
            base.to_event(event_dim + fn.event_dim - base.event_dim)
            if fn.event_dim > base.event_dim or event_dim
            else base,
            obs=given,
            infer={"is_observed": False},
        )
        for transform in fn.transforms:
            value = transform(value)
        return {"fn": None, "value": value, "is_observed": True}
