"""Define distributions that wait for a context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .transformed import TransformedDistribution
from .transforms.modules import conditioned


class ConditionalDistribution:
    """Base of what makes a distribution from a context."""

    def condition(self, context: Any) -> Any:
        """Return the distribution for a context, a tensor ``batch + (context_dim,)``."""
        raise TypeError(f"{type(self).__name__} does not say how to condition")


class ConstantConditionalDistribution(ConditionalDistribution):
    """A distribution that ignores the context.

    :param base_dist: the distribution.
    """

    def __init__(self, base_dist: Any) -> None:
        self.base_dist = base_dist

    def condition(self, context: Any) -> Any:
        """Return the distribution."""
        return self.base_dist


class ConditionalTransformedDistribution(ConditionalDistribution):
    """A distribution after transforms, any of which may wait for a context::

        flow = ConditionalTransformedDistribution(base, [conditional_spline(2, context_dim=3)])
        flow.condition(context).log_prob(x)

    :param base_dist: a distribution, or a conditional one.
    :param transforms: a transform or several, plain or conditional, applied from left to right.
    """

    def __init__(self, base_dist: Any, transforms: Any) -> None:
        self.base_dist = base_dist
        self.transforms = list(transforms) if isinstance(transforms, Sequence) else [transforms]

    def condition(self, context: Any) -> TransformedDistribution:
        """Return the transformed distribution for a context.

        :param context: a tensor ``batch + (context_dim,)``.
        """
        base = self.base_dist
        if isinstance(base, ConditionalDistribution):
            base = base.condition(context)
        transforms = [conditioned(each, context) for each in self.transforms]
        return TransformedDistribution(base, transforms)

    def clear_cache(self) -> None:
        """Forget the last input and output of every transform that keeps them."""
        for transform in self.transforms:
            clear = getattr(transform, "clear_cache", None)
            if clear is not None:
                clear()
