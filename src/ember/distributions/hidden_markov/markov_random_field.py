"""Define chains of Gaussian factors that need not be conditional distributions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ...errors import message
from ..gaussian_algebra import Gaussian, gaussian_tensordot, mvn_to_gaussian, sequential_gaussian_tensordot
from ..shapes import broadcast_shape
from .hidden_markov_model import HiddenMarkovModel
from .state_space import widened_normal


class GaussianMRF(HiddenMarkovModel):
    """A Markov random field over time with Gaussian factors, normalised over states and observations.

    The density is that of initial_dist(z_0) ∏ transition_dist(z_{t-1}, z_t) observation_dist(z_t, x_t)
    integrated over the states, and normalised. Event shape ``(T, obs_dim)``; it has no draws.

    :param initial_dist: MultivariateNormal of event shape ``(hidden_dim,)``.
    :param transition_dist: MultivariateNormal of event shape ``(2 hidden_dim,)``, with a dim of time or not.
    :param observation_dist: MultivariateNormal of event shape ``(hidden_dim + obs_dim,)``, likewise.
    :raises ValueError: if the event shapes do not fit together.
    """

    support = constraints.independent(constraints.real, 2)

    def __init__(
        self,
        initial_dist: Any,
        transition_dist: Any,
        observation_dist: Any,
        validate_args: bool | None = None,
    ) -> None:
        sizes = [
            each.event_shape[0] if len(each.event_shape) == 1 else 0
            for each in (initial_dist, transition_dist, observation_dist)
        ]
        if sizes[0] < 1 or sizes[1] != 2 * sizes[0] or sizes[2] <= sizes[0]:
            raise ValueError(
                message(
                    "The factors of a GaussianMRF do not fit together.",
                    expected="event shapes (n,), (2 n,) and (n + obs_dim,)",
                    actual=", ".join(
                        str(tuple(each.event_shape))
                        for each in (initial_dist, transition_dist, observation_dist)
                    ),
                )
            )
        self.hidden_dim = sizes[0]
        self.obs_dim = sizes[2] - sizes[0]
        shape = broadcast_shape(
            (*initial_dist.batch_shape, 1), transition_dist.batch_shape, observation_dist.batch_shape
        )
        self._dtype = initial_dist.mean.dtype
        self._init = mvn_to_gaussian(widened_normal(initial_dist))
        self._trans = mvn_to_gaussian(widened_normal(transition_dist))
        self._obs = mvn_to_gaussian(widened_normal(observation_dist))
        super().__init__(None, shape[:-1], torch.Size((shape[-1], self.obs_dim)), validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        wide = value.to(self._obs.info_vec.dtype)
        observed = self._integral(self._obs.condition(wide), value.shape[-2])
        everything = self._integral(self._obs.marginalize(right=self.obs_dim), value.shape[-2])
        return (observed - everything).to(self._dtype).expand(self._batch_with(value))

    def _integral(self, factors: Gaussian, length: int) -> Tensor:
        """Integrate over all states the product of the chain with factors of single states."""
        chain = self._trans + factors.event_pad(left=self.hidden_dim)
        batch = chain.batch_shape[:-1] if chain.batch_shape else torch.Size()
        total = sequential_gaussian_tensordot(chain.expand((*batch, length)))
        return gaussian_tensordot(self._init, total, self.hidden_dim).event_logsumexp()
