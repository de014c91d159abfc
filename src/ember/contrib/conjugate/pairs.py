"""Know pairs of distributions of which one is conjugate to the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

import ember.distributions as dist
from ember.errors import message

_MARK = "_conjugate_pair"


class ConjugatePair(ABC):
    """Base of pairs: a latent distribution, and one of observations given the latent.

    One object serves one pair of sites in one run of a model.
    """

    def __init__(self) -> None:
        self.latent_dist: Any = None
        self.conditional_dist: Any = None

    @staticmethod
    def of(distribution: Any) -> tuple[ConjugatePair | None, str]:
        """Return the pair that a site's distribution belongs to, and its role there."""
        return getattr(distribution, _MARK, (None, ""))

    @abstractmethod
    def latent(self, *args: Any, **kwargs: Any) -> Any:
        """Return the distribution of the latent, with the arguments of its family."""

    @abstractmethod
    def conditional(self, *args: Any, **kwargs: Any) -> Any:
        """Return the distribution of the observation, with the arguments of its family."""

    @abstractmethod
    def posterior(self, obs: Tensor, seen: Any = None) -> Any:
        """Return the distribution of the latent given an observation.

        :param obs: the observation.
        :param seen: the distribution whose other parameters hold, by default that of :meth:`conditional`.
        """

    @abstractmethod
    def compound(self) -> Any:
        """Return the distribution of the observation with the latent summed out."""

    def _given(self) -> Any:
        if self.latent_dist is None:
            raise ValueError(
                message(f"{type(self).__name__} has no latent yet.", fix="call its method latent first")
            )
        return self.latent_dist


class BetaBinomialPair(ConjugatePair):
    """Binomial observations whose probability is Beta."""

    def latent(self, *args: Any, **kwargs: Any) -> Any:
        """Return a Beta with these arguments."""
        self.latent_dist = _marked(dist.Beta, self, "latent", args, kwargs)
        return self.latent_dist

    def conditional(self, *args: Any, **kwargs: Any) -> Any:
        """Return a Binomial with these arguments."""
        self.conditional_dist = _marked(dist.Binomial, self, "conditional", args, kwargs)
        return self.conditional_dist

    def posterior(self, obs: Tensor, seen: Any = None) -> Any:
        """Return Beta(a + obs, b + total_count − obs)."""
        prior, seen = self._given(), self.conditional_dist if seen is None else seen
        return dist.Beta(prior.concentration1 + obs, prior.concentration0 + seen.total_count - obs)

    def compound(self) -> Any:
        """Return the BetaBinomial."""
        prior = self._given()
        return dist.BetaBinomial(
            prior.concentration1, prior.concentration0, self.conditional_dist.total_count
        )


class GammaPoissonPair(ConjugatePair):
    """Poisson observations whose rate is Gamma."""

    def latent(self, *args: Any, **kwargs: Any) -> Any:
        """Return a Gamma with these arguments."""
        self.latent_dist = _marked(dist.Gamma, self, "latent", args, kwargs)
        return self.latent_dist

    def conditional(self, *args: Any, **kwargs: Any) -> Any:
        """Return a Poisson with these arguments."""
        self.conditional_dist = _marked(dist.Poisson, self, "conditional", args, kwargs)
        return self.conditional_dist

    def posterior(self, obs: Tensor, seen: Any = None) -> Any:
        """Return Gamma(concentration + obs, rate + 1)."""
        prior = self._given()
        return dist.Gamma(prior.concentration + obs, prior.rate + 1.0)

    def compound(self) -> Any:
        """Return the GammaPoisson."""
        prior = self._given()
        return dist.GammaPoisson(prior.concentration, prior.rate)


def _marked(cls: Any, pair: ConjugatePair, role: str, args: Any, kwargs: Any) -> Any:
    made = cls(*args, **kwargs)  # plates expand it, and keep what was set on it
    setattr(made, _MARK, (pair, role))
    return made
