"""Filter chains whose states can be integrated out as Gaussians, whatever else they depend on."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ...errors import message
from ..gaussian_algebra import matrix_and_mvn_to_gaussian
from ..gaussian_algebra.batches import Batched
from ..gaussian_algebra.conversion import is_diagonal, scale_tril_of
from ..gaussian_algebra.reduction import lean, with_time
from ..multivariate import MultivariateNormal
from ..real import Normal
from ..shapes import broadcast_shape
from .hidden_markov_model import HiddenMarkovModel

_EMPTY = torch.Size()


class StateSpaceModel(HiddenMarkovModel):
    """A chain of densities over (z_{t-1}, z_t) and (z_t, x_t), in a form that can be multiplied.

    The densities keep no more batch and time dims than the parameters had.
    """

    support = constraints.independent(constraints.real, 2)
    _init: Any
    _trans: Any
    _obs: Any
    _steps_are_conditional = True  # whether each, integrated over what comes later, is one
    _dtype: torch.dtype  # of what users give and get; densities are kept in double precision

    def __init__(
        self,
        densities: tuple[Any, Any, Any],
        batch_shape: torch.Size,
        event_shape: torch.Size,
        hidden_dim: int,
        dtype: torch.dtype,
        duration: int | None,
        validate_args: bool | None,
    ) -> None:
        self._init, self._trans, self._obs = densities
        self.hidden_dim = hidden_dim
        self._dtype = dtype
        self.obs_dim = event_shape[-1]
        super().__init__(duration, batch_shape, event_shape, validate_args)

    @staticmethod
    @abstractmethod
    def _tensordot(x: Any, y: Any, dims: int) -> Any:
        """Multiply two densities and integrate over the variables that they share."""

    @staticmethod
    @abstractmethod
    def _sequential_tensordot(gaussian: Any) -> Any:
        """Integrate out the inner states of a chain."""

    def _elements(self, value: Tensor) -> Any:
        """Return the densities over (z_{t-1}, z_t) for the observations in ``value``."""
        value = value.to(self._trans.info_vec.dtype)
        return self._trans + self._obs.condition(value).event_pad(left=self.hidden_dim)

    def _final(self, value: Tensor) -> Any:
        """Return the joint density of the last state and the observations."""
        return self._tensordot(self._init, self._sequential_tensordot(self._elements(value)), self.hidden_dim)

    @abstractmethod
    def _log_normalizer(self, density: Any) -> Tensor:
        """Return the logarithm of the integral over everything."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_prob = self._log_normalizer(self._final(value)).to(self._dtype)
        return log_prob.expand(self._batch_with(value))

    def prefix_condition(self, data: Tensor) -> Any:
        """Return the distribution of the rest of a sequence, given its beginning.

        :param data: the first ``t < duration`` observations, ``batch + (t, obs_dim)``.
        :raises ValueError: if the model has no duration, or the data are no proper prefix.
        """
        length, duration = self._check_prefix(data), self._known_duration()
        final = self._steps(0, length)._final(data)
        rest = self._steps(length, duration)._changed(_init=final, _batch_shape=self._batch_with(data))
        return rest._changed(_init=final + -rest._total())

    def _total(self) -> Tensor:
        """Return the logarithm of the integral over all states and observations."""
        if self._steps_are_conditional:
            return self._log_normalizer(self._init)
        chain = self._trans.expand((*self._trans.batch_shape[:-1], self._known_duration()))
        whole = self._tensordot(self._init, self._sequential_tensordot(chain), self.hidden_dim)
        return self._log_normalizer(whole)

    def _steps(self, start: int, stop: int) -> Any:
        """Return a copy for a part of the time steps, with the same initial density."""

        def part(density: Batched) -> Batched:
            return density.map_tensors(lambda tensor, dims: _part(with_time(tensor, dims), dims, start, stop))

        return self._changed(_trans=part(self._trans), _obs=part(self._obs))._lasting(stop - start)


def _part(tensor: Tensor, event_dims: int, start: int, stop: int) -> Tensor:
    """Return time steps of a parameter, unless one stands for all."""
    dim = tensor.dim() - 1 - event_dims
    return tensor if tensor.shape[dim] == 1 else tensor.narrow(dim, start, stop - start)


def model_shapes(
    initial_dist: Any,
    transition_matrix: Tensor,
    transition_dist: Any,
    observation_matrix: Tensor,
    observation_dist: Any,
    more: torch.Size = _EMPTY,
) -> tuple[torch.Size, torch.Size, int]:
    """Return (batch_shape, event_shape, hidden_dim) of a linear chain, after checking the parameters.

    :param more: batch shape of a further parameter without a dim of time.
    :raises ValueError: if sizes or event shapes do not fit together.
    """
    hidden = transition_matrix.shape[-1] if transition_matrix.dim() > 1 else 0
    observed = observation_matrix.shape[-1] if observation_matrix.dim() > 1 else 0
    expected = {
        "initial_dist.event_shape": (initial_dist.event_shape, (hidden,)),
        "transition_matrix.shape[-2:]": (transition_matrix.shape[-2:], (hidden, hidden)),
        "transition_dist.event_shape": (transition_dist.event_shape, (hidden,)),
        "observation_matrix.shape[-2:]": (observation_matrix.shape[-2:], (hidden, observed)),
        "observation_dist.event_shape": (observation_dist.event_shape, (observed,)),
    }
    for name, (actual, wanted) in expected.items():
        if tuple(actual) != wanted:
            raise ValueError(
                message(
                    f"{name} does not fit the other parameters.",
                    expected=f"{wanted}: hidden_dim {hidden}, obs_dim {observed}",
                    actual=tuple(actual),
                    fix="use .to_event(1) for independent entries; matrices act from the right: z @ matrix",
                )
            )
    shape = broadcast_shape(
        (*initial_dist.batch_shape, 1),
        (*more, 1),
        transition_matrix.shape[:-2],
        transition_dist.batch_shape,
        observation_matrix.shape[:-2],
        observation_dist.batch_shape,
    )
    return shape[:-1], torch.Size((shape[-1], observed)), hidden


def widened(tensor: Tensor) -> Tensor:
    """Return the tensor in double precision, if its device has it.

    Precisions of slow states are small differences of large ones.
    """
    return tensor if tensor.device.type == "mps" else tensor.double()


def widened_normal(mvn: Any) -> Any:
    """Return a normal distribution over vectors in double precision."""
    if is_diagonal(mvn):
        loc, scale = (widened(lean(each, 1)) for each in (mvn.base_dist.loc, mvn.base_dist.scale))
        return Normal(loc, scale, validate_args=False).to_event(1)
    loc, factor = widened(lean(mvn.loc, 1)), widened(scale_tril_of(mvn))
    return MultivariateNormal(loc, scale_tril=factor, validate_args=False)


def as_gaussian(matrix: Tensor, mvn: Any) -> Any:
    """Return the density of a step in full form."""
    density = matrix_and_mvn_to_gaussian(matrix, mvn)
    return density.to_gaussian() if hasattr(density, "to_gaussian") else density
