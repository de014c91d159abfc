"""Declare what every distribution must offer: a draw, a log probability, and their roles in gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from ..errors import message
from .scaling import ScoreParts


class Distribution(ABC):
    """Abstract base of all distributions; calling an instance draws from it.

    ``has_rsample`` says that draws carry gradients to the parameters, ``has_enumerate_support`` that
    :meth:`enumerate_support` lists all values.
    """

    has_rsample: bool = False
    has_enumerate_support: bool = False

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Draw a value, with gradients to the parameters if ``has_rsample``."""

    @abstractmethod
    def log_prob(self, x: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the log probability density or mass of ``x``."""

    def score_parts(self, x: Any, *args: Any, **kwargs: Any) -> ScoreParts:
        """Return the log probability with its score function and entropy term.

        A distribution with ``has_rsample`` has no score function; one without has no entropy term.
        Partly reparametrised distributions override this.
        """
        log_prob = self.log_prob(x, *args, **kwargs)
        if self.has_rsample:
            return ScoreParts(log_prob, 0, log_prob)
        return ScoreParts(log_prob, log_prob, 0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return all values along a new leftmost dim.

        :raises NotImplementedError: for families whose support is not finite.
        """
        raise NotImplementedError(
            message(
                f"{type(self).__name__} cannot list its support.",
                expected="a distribution with has_enumerate_support",
                fix="sample the site instead of enumerating it",
            )
        )

    def conjugate_update(self, other: Distribution) -> tuple[Distribution, Tensor]:
        """Return (updated, log_normalizer) of the fusion with ``other``.

        :raises NotImplementedError: for families without conjugate updates.
        """
        raise NotImplementedError(
            message(
                f"{type(self).__name__} has no conjugate update with {type(other).__name__}.",
                fix="let inference treat the two sites numerically",
            )
        )

    def has_rsample_(self, value: bool) -> Distribution:
        """Set ``has_rsample`` on this instance and return it.

        :raises ValueError: if ``value`` is not a bool.
        """
        if value not in (True, False):
            raise ValueError(
                message("has_rsample_ takes a bool.", expected="True or False", actual=repr(value))
            )
        self.__dict__["has_rsample"] = value
        return self

    @property
    def rv(self) -> Any:
        """Say that random-variable algebra is not part of ember (always raises)."""
        raise AttributeError(
            message(
                "Distributions have no .rv attribute in ember.",
                fix="transform draws directly, or use TransformedDistribution",
            )
        )
