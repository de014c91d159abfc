"""Define linear dynamical systems with Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import message
from ..gaussian_algebra import (
    Gaussian,
    gaussian_tensordot,
    matrix_and_mvn_to_gaussian,
    mvn_to_gaussian,
    sequential_gaussian_filter_sample,
    sequential_gaussian_tensordot,
)
from ..multivariate import MultivariateNormal
from ..shapes import broadcast_shape
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

    def conjugate_update(self, other: Any) -> tuple[GaussianHMM, Tensor]:
        """Return the normalised product with a density of the observations, and the product's integral.

        :param other: independent over time: a MultivariateNormal ``.to_event(1)``, or a Normal
            ``.to_event(2)``, of event shape ``(T, obs_dim)``.
        :returns: ``(updated, log_normalizer)`` with
            ``self.log_prob(x) + other.log_prob(x) == updated.log_prob(x) + log_normalizer``.
        :raises ValueError: for other distributions and event shapes.
        """
        duration = self._duration or (other.event_shape[0] if other.event_shape else 1)
        if other.event_shape != (duration, self.obs_dim):
            raise ValueError(
                message(
                    "A GaussianHMM can be updated by a density of its observations only.",
                    expected=f"event_shape {(self._duration or 'T', self.obs_dim)}",
                    actual=f"event_shape {tuple(other.event_shape)}",
                    fix="use .to_event(1) on a MultivariateNormal, .to_event(2) on a Normal",
                )
            )
        guess = mvn_to_gaussian(widened_normal(other.to_event(-1)))
        joint = self._obs + guess.event_pad(left=self.hidden_dim)
        # What the guess says of the states goes to the chain; what is left is conditional on them again.
        states = joint.marginalize(right=self.obs_dim)
        product = self._changed(
            _trans=self._trans + states.event_pad(left=self.hidden_dim),
            _obs=joint - states.event_pad(right=self.obs_dim),
            _batch_shape=broadcast_shape(self._batch_shape, other.batch_shape),
            _steps_are_conditional=False,
        )._lasting(duration)
        total = product._total()
        updated = product._changed(_init=self._init - total)
        return updated, total.to(self._dtype).expand(product._batch_shape)

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
