"""Define linear chains with noise of any family, to be drawn from or reparameterised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ...errors import message
from ..gaussian_algebra.quadratic_forms import multiply_rows
from ..gaussian_algebra.reduction import with_time
from .hidden_markov_model import HiddenMarkovModel
from .state_space import model_shapes

_EMPTY = torch.Size()


class LinearHMM(HiddenMarkovModel):
    """A hidden linear chain whose noises may be of any family; it has draws, but no density.

    States and observations follow the equations of :class:`GaussianHMM`. For inference use
    :class:`~ember.infer.reparam.LinearHMMReparam`, which turns it into a GaussianHMM. Transforms of the
    observations' distribution are applied to the observations, outside of the linear equation.

    :param initial_dist: distribution of z_0, of event shape ``(hidden_dim,)``.
    :param transition_matrix: ``(..., hidden_dim, hidden_dim)``.
    :param transition_dist: distribution of the states' noise, of batch shape ``(..., T)`` or ``()``.
    :param observation_matrix: ``(..., hidden_dim, obs_dim)``.
    :param observation_dist: distribution of the observations' noise, of event shape ``(obs_dim,)``.
    :param duration: T, where no parameter has a dim of time.
    :raises ValueError: if parameters do not fit together.
    """

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
        batch_shape, event_shape, self.hidden_dim = model_shapes(
            initial_dist, transition_matrix, transition_dist, observation_matrix, observation_dist
        )
        self.obs_dim = event_shape[-1]
        self._observed_support = observation_dist.support
        self.initial_dist = initial_dist
        self.transition_matrix = transition_matrix
        self.transition_dist = transition_dist
        self.observation_matrix = observation_matrix
        self.observation_dist, self.transforms = _split_transforms(observation_dist)
        super().__init__(duration, batch_shape, event_shape, validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        parts = (self.initial_dist, self.transition_dist, self.observation_dist)
        return bool(self.__dict__.get("has_rsample", all(each.has_rsample for each in parts)))

    @constraints.dependent_property(event_dim=2)
    def support(self) -> Any:
        return constraints.independent(self._observed_support, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Say that the density is not known (always raises)."""
        raise NotImplementedError(
            message(
                "LinearHMM has no log_prob: its states cannot be integrated out exactly.",
                expected="a GaussianHMM, or LinearHMM under poutine.reparam",
                fix="reparameterise the site with LinearHMMReparam, and each noise that is not Gaussian",
            )
        )

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self._draw("rsample", torch.Size(sample_shape))

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        with torch.no_grad():
            return self._draw("sample", torch.Size(sample_shape))

    def _draw(self, method: str, sample_shape: torch.Size) -> Tensor:
        shape = (*self._batch_shape, self._known_duration())
        start = getattr(self.initial_dist.expand(self._batch_shape), method)(sample_shape)
        noise = getattr(self.transition_dist.expand(torch.Size(shape)), method)(sample_shape)
        emission = getattr(self.observation_dist.expand(torch.Size(shape)), method)(sample_shape)
        matrix = with_time(self.transition_matrix, 2)
        first = noise[..., :1, :] + multiply_rows(start.unsqueeze(-2), matrix[..., :1, :, :])
        states = accumulate(matrix, torch.cat([first, noise[..., 1:, :]], -2))
        value = multiply_rows(states, self.observation_matrix) + emission
        for transform in self.transforms:
            value = transform(value)
        return value


def accumulate(matrix: Tensor, noise: Tensor) -> Tensor:
    """Return z_t = z_{t-1} matrix_t + noise_t for t = 1, …, T, from z_0 = 0, in O(log T) steps.

    Each step doubles the number of noises that a state has gathered (Hillis & Steele 1986).

    :param matrix: ``batch + (T or 1, n, n)``.
    :param noise: ``batch + (T, n)``.
    """
    step, length = 1, noise.shape[-2]
    while step < length:
        alike = matrix.shape[-3] == 1
        later = matrix if alike else matrix[..., step:, :, :]
        gathered = noise[..., step:, :] + multiply_rows(noise[..., :-step, :], later)
        noise = torch.cat([noise[..., :step, :], gathered], -2)
        if alike:
            matrix = matrix @ matrix
        else:
            matrix = torch.cat([matrix[..., :step, :, :], matrix[..., :-step, :, :] @ later], -3)
        step *= 2
    return noise


def _split_transforms(distribution: Any) -> tuple[Any, list[Any]]:
    """Take the transforms off a distribution of event dim 1, also from inside ``to_event``."""
    inner = distribution
    while hasattr(inner, "reinterpreted_batch_ndims"):
        inner = inner.base_dist
    if not hasattr(inner, "transforms") or not hasattr(inner, "base_dist"):
        return distribution, []
    base, moved = inner.base_dist, 1 - inner.base_dist.event_dim
    return (base.to_event(moved) if moved else base), list(inner.transforms)
