"""Define linear dynamical systems whose Gaussian noises share an unknown precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..gaussian_algebra import (
    GammaGaussian,
    gamma_and_mvn_to_gamma_gaussian,
    gamma_gaussian_tensordot,
    matrix_and_mvn_to_gamma_gaussian,
    sequential_gamma_gaussian_tensordot,
    sequential_gaussian_filter_sample,
)
from ..multivariate import MultivariateNormal
from ..positive import Gamma
from .state_space import StateSpaceModel, model_shapes, widened, widened_normal

_EMPTY = torch.Size()


class GammaGaussianHMM(StateSpaceModel):
    """A :class:`GaussianHMM` all of whose precisions are multiplied by one s ~ scale_dist.

    Integrated over s, sequences are multivariate t of ``2 concentration`` degrees of freedom.

    :param scale_dist: Gamma of the batch shape, without a dim of time.
    :param initial_dist: distribution of z_0 at s = 1; for it and the others see :class:`GaussianHMM`.
    :param transition_matrix: ``(..., hidden_dim, hidden_dim)``.
    :param transition_dist: distribution of the states' noise at s = 1.
    :param observation_matrix: ``(..., hidden_dim, obs_dim)``.
    :param observation_dist: distribution of the observations' noise at s = 1.
    :param duration: T, where no parameter has a dim of time.
    :raises ValueError: if parameters do not fit together, or a noise is not Gaussian.
    """

    has_rsample = True

    def __init__(
        self,
        scale_dist: Any,
        initial_dist: Any,
        transition_matrix: Tensor,
        transition_dist: Any,
        observation_matrix: Tensor,
        observation_dist: Any,
        validate_args: bool | None = None,
        duration: int | None = None,
    ) -> None:
        if not isinstance(scale_dist, torch.distributions.Gamma):
            raise ValueError(f"scale_dist must be a Gamma distribution, got {type(scale_dist).__name__}")
        parameters = (initial_dist, transition_matrix, transition_dist, observation_matrix, observation_dist)
        batch_shape, event_shape, hidden_dim = model_shapes(*parameters, scale_dist.batch_shape)
        densities = (
            gamma_and_mvn_to_gamma_gaussian(scale_dist, widened_normal(initial_dist)),
            matrix_and_mvn_to_gamma_gaussian(widened(transition_matrix), widened_normal(transition_dist)),
            matrix_and_mvn_to_gamma_gaussian(widened(observation_matrix), widened_normal(observation_dist)),
        )
        dtype = transition_matrix.dtype
        super().__init__(densities, batch_shape, event_shape, hidden_dim, dtype, duration, validate_args)

    _tensordot = staticmethod(gamma_gaussian_tensordot)
    _sequential_tensordot = staticmethod(sequential_gamma_gaussian_tensordot)

    def _log_normalizer(self, density: GammaGaussian) -> Tensor:
        return density.event_logsumexp().logsumexp()

    def filter(self, value: Tensor) -> tuple[Gamma, MultivariateNormal]:
        """Return the posteriors of s, and of the last state at s = 1 (s multiplies its precision).

        :param value: observations, ``batch + (T, obs_dim)``.
        """
        if self._validate_args:
            self._validate_sample(value)
        final = self._final(value).expand(self._batch_with(value))
        factor = torch.linalg.cholesky(final.precision)
        loc = torch.cholesky_solve(final.info_vec.unsqueeze(-1), factor).squeeze(-1)
        loc, precision = loc.to(self._dtype), final.precision.to(self._dtype)
        mvn = MultivariateNormal(loc, precision_matrix=precision, validate_args=self._validate_args)
        scale = final.event_logsumexp().to_distribution()
        return Gamma(scale.concentration.to(self._dtype), scale.rate.to(self._dtype)), mvn

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = (*self._batch_shape, self._known_duration())
        scale = self._init.event_logsumexp().to_distribution()
        s = scale.expand(self._batch_shape).rsample(torch.Size(sample_shape))
        states = _draw_states(self._init, self._trans.expand(shape), s)
        return self._obs.at(s.unsqueeze(-1)).left_condition(states).rsample().to(self._dtype)

    def rsample_posterior(self, value: Tensor, sample_shape: Sequence[int] = _EMPTY) -> tuple[Tensor, Tensor]:
        """Draw s and the states z_1, …, z_T given the observations, with gradients to the parameters.

        :param value: observations, ``batch + (T, obs_dim)``.
        :returns: s, ``sample_shape + batch``, and states, ``sample_shape + batch + (T, hidden_dim)``.
        """
        if self._validate_args:
            self._validate_sample(value)
        batch = self._batch_with(value)
        scale = self._final(value).event_logsumexp().to_distribution()
        s = scale.expand(batch).rsample(torch.Size(sample_shape))
        states = _draw_states(self._init, self._elements(value).expand((*batch, value.shape[-2])), s)
        return s.to(self._dtype), states.to(self._dtype)


def _draw_states(init: GammaGaussian, chain: GammaGaussian, s: Tensor) -> Tensor:
    """Draw z_1, …, z_T given the precision s, of shape ``sample_shape + batch``."""
    given = chain.at(s.unsqueeze(-1))
    return sequential_gaussian_filter_sample(init.at(s), given)[..., 1:, :]
