"""Define linear dynamical systems with Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..gaussian_algebra import (
    Gaussian,
    gaussian_tensordot,
    matrix_and_mvn_to_gaussian,
    mvn_to_gaussian,
    sequential_gaussian_filter_sample,
    sequential_gaussian_tensordot,
)
from ..multivariate import MultivariateNormal
from .state_space import StateSpaceModel, as_gaussian, model_shapes, widened, widened_normal

_EMPTY = torch.Size()


class GaussianHMM(StateSpaceModel):
    """A hidden Gaussian chain with Gaussian observations: a Kalman filter's likelihood, in O(log T) depth.

    States z_0 ~ initial_dist and z_t = z_{t-1} transition_matrix + noise, observations
    x_t = z_t observation_matrix + noise for t = 1, …, T. Matrices and noises may have a dim of time, their
    rightmost batch dim; without any, every step is alike and the model costs little more than one step.
    Event shape ``(T, obs_dim)``. The scan is that of Särkkä & García-Fernández (2019, arXiv 1905.13002) in
    information form, so that noise covariances must be positive definite; computed in double precision.

    :param initial_dist: MultivariateNormal, or Normal ``.to_event(1)``, of event shape ``(hidden_dim,)``.
    :param transition_matrix: ``(..., hidden_dim, hidden_dim)``.
    :param transition_dist: as ``initial_dist``, of batch shape ``(..., T)`` or ``()``.
    :param observation_matrix: ``(..., hidden_dim, obs_dim)``.
    :param observation_dist: as ``transition_dist``, of event shape ``(obs_dim,)``.
    :param duration: T, where no parameter has a dim of time.
    :raises ValueError: if parameters do not fit together, or a noise is not Gaussian.
    """

    has_rsample = True

    def __init__(
        self,
        initial_dist: Any,
        transition_matrix: Tensor,
        transition_dist: Any,
        observation_matrix: Tensor,
        observation_dist: Any,
        validate_args: bool | None = None,
        duration: int | None = None,
    ) -> None:
        parameters = (initial_dist, transition_matrix, transition_dist, observation_matrix, observation_dist)
        batch_shape, event_shape, hidden_dim = model_shapes(*parameters)
        densities = (
            mvn_to_gaussian(widened_normal(initial_dist)),
            as_gaussian(widened(transition_matrix), widened_normal(transition_dist)),
            matrix_and_mvn_to_gaussian(widened(observation_matrix), widened_normal(observation_dist)),
        )
        dtype = transition_matrix.dtype
        super().__init__(densities, batch_shape, event_shape, hidden_dim, dtype, duration, validate_args)

    _tensordot = staticmethod(gaussian_tensordot)
    _sequential_tensordot = staticmethod(sequential_gaussian_tensordot)

    def _log_normalizer(self, density: Gaussian) -> Tensor:
        return density.event_logsumexp()

    def filter(self, value: Tensor) -> MultivariateNormal:
        """Return the posterior of the last state.

        :param value: observations, ``batch + (T, obs_dim)``.
        """
        if self._validate_args:
            self._validate_sample(value)
        final = self._final(value).expand(self._batch_with(value))
        factor = torch.linalg.cholesky(final.precision)
        loc = torch.cholesky_solve(final.info_vec.unsqueeze(-1), factor).squeeze(-1)
        loc, precision = loc.to(self._dtype), final.precision.to(self._dtype)
        return MultivariateNormal(loc, precision_matrix=precision, validate_args=self._validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        shape = (*self._batch_shape, self._known_duration())
        states = sequential_gaussian_filter_sample(
            self._init.expand(self._batch_shape), self._trans.expand(shape), tuple(sample_shape)
        )
        return self._obs.left_condition(states[..., 1:, :]).rsample().to(self._dtype)

    def rsample_posterior(self, value: Tensor, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw the states z_1, …, z_T given the observations, with gradients to the parameters.

        :param value: observations, ``batch + (T, obs_dim)``.
        :returns: ``sample_shape + batch + (T, hidden_dim)``.
        """
        if self._validate_args:
            self._validate_sample(value)
        batch = self._batch_with(value)
        elements = self._elements(value).expand((*batch, value.shape[-2]))
        states = sequential_gaussian_filter_sample(self._init.expand(batch), elements, tuple(sample_shape))
        return states[..., 1:, :].to(self._dtype)
