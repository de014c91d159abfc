"""Define hidden Markov models with finitely many states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ...errors import message
from ..discrete import Categorical
from ..gaussian_algebra.reduction import Fields, reduce_time
from ..parameters import table
from ..shapes import broadcast_shape
from .hidden_markov_model import HiddenMarkovModel
from .time_slices import time_slice

_EMPTY = torch.Size()


class DiscreteHMM(HiddenMarkovModel):
    """A hidden Markov chain over ``state_dim`` states with observations of any family, in O(log T) depth.

    States z_0 ~ Categorical(initial_logits) and z_t ~ Categorical(transition_logits[z_{t-1}]), observations
    x_t ~ observation_dist[z_t] for t = 1, …, T. Parameters may have a dim of time, left of the states'
    dims. Event shape ``(T,) + observation_dist.event_shape``.

    :param initial_logits: ``(..., state_dim)``.
    :param transition_logits: ``(..., state_dim, state_dim)``, from rows to columns; need not be normalised.
    :param observation_dist: any distribution of batch shape ``(..., state_dim)``.
    :param duration: T, where no parameter has a dim of time.
    :raises ValueError: if parameters do not fit together.
    """

    arg_constraints = table(initial_logits=constraints.real, transition_logits=constraints.real)

    def __init__(
        self,
        initial_logits: Tensor,
        transition_logits: Tensor,
        observation_dist: Any,
        validate_args: bool | None = None,
        duration: int | None = None,
    ) -> None:
        states = initial_logits.shape[-1:]
        observed = observation_dist.batch_shape
        if not states or transition_logits.shape[-2:] != states * 2 or observed[-1:] not in (states, (1,)):
            raise ValueError(
                message(
                    "The parameters of a DiscreteHMM do not have one number of states.",
                    expected="logits (..., K), transition logits (..., K, K), observation_dist (..., K)",
                    actual=f"{tuple(initial_logits.shape)}, {tuple(transition_logits.shape)}, "
                    f"batch_shape {tuple(observed)}",
                )
            )
        shape = broadcast_shape((*initial_logits.shape[:-1], 1), transition_logits.shape[:-2], observed[:-1])
        self.initial_logits = initial_logits.log_softmax(-1)
        self.transition_logits = transition_logits.log_softmax(-1)
        self.observation_dist = observation_dist
        event_shape = shape[-1:] + observation_dist.event_shape
        super().__init__(duration, shape[:-1], event_shape, validate_args)

    @constraints.dependent_property(event_dim=1)
    def support(self) -> Any:
        return constraints.independent(self.observation_dist.support, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self._final(value).logsumexp(-1).expand(self._batch_with(value))

    def _scored(self, value: Tensor) -> Tensor:
        """Return the log densities of the observations in each state, ``(..., T, state_dim)``."""
        return self.observation_dist.log_prob(value.unsqueeze(-1 - self.observation_dist.event_dim))

    def _final(self, value: Tensor) -> Tensor:
        """Return the joint log probabilities of the last state and the observations."""
        logits = self.transition_logits + self._scored(value).unsqueeze(-2)
        steps = scaled(logits.unsqueeze(0) if logits.dim() == 2 else logits)
        whole = reduce_time(steps, (2, 1), value.shape[-self.event_dim], multiply)
        start = scaled(self.initial_logits.to(logits.dtype).unsqueeze(-2))
        matrix, row_scale = multiply(start, whole)
        possible = matrix > 0
        log = torch.where(possible, torch.where(possible, matrix, 1.0).log(), -torch.inf)
        return (log + row_scale.unsqueeze(-1)).squeeze(-2)

    def filter(self, value: Tensor) -> Categorical:
        """Return the posterior of the last state.

        :param value: observations, ``batch + (T,) + event_shape of one``.
        """
        if self._validate_args:
            self._validate_sample(value)
        final = self._final(value)
        return Categorical(logits=final.expand(self._batch_with(value) + final.shape[-1:]))

    def prefix_condition(self, data: Tensor) -> DiscreteHMM:
        """Return the distribution of the rest of a sequence, given its beginning.

        :param data: the first ``t < duration`` observations.
        :raises ValueError: if the model has no duration, or the data are no proper prefix.
        """
        length, duration = self._check_prefix(data), self._known_duration()
        logits = self._steps(0, length)._final(data).log_softmax(-1)
        return self._steps(length, duration)._changed(
            initial_logits=logits, _batch_shape=self._batch_with(data)
        )

    def _steps(self, start: int, stop: int) -> DiscreteHMM:
        """Return a copy for a part of the time steps, with the same initial logits."""
        logits = self.transition_logits
        if logits.dim() > 2 and logits.shape[-3] > 1:
            logits = logits[..., start:stop, :, :]
        observation_dist = time_slice(self.observation_dist, -2, start, stop)
        return self._changed(transition_logits=logits, observation_dist=observation_dist)._lasting(
            stop - start
        )

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        length, count = self._known_duration(), self.initial_logits.shape[-1]
        batch = torch.Size(sample_shape) + self._batch_shape
        states = Categorical(logits=self.initial_logits).expand(batch).sample()
        logits = self.transition_logits.expand((*batch, length, count, count))
        # The largest of logits with Gumbel noise is a categorical draw.
        noise = -torch.empty((*batch, length, count), dtype=logits.dtype).exponential_().log()
        visited = []
        for t in range(length):
            row = states[..., None, None].expand((*batch, 1, count))
            states = (logits[..., t, :, :].gather(-2, row).squeeze(-2) + noise[..., t, :]).argmax(-1)
            visited.append(states)
        return self._observe(torch.stack(visited, -1), torch.Size(sample_shape))

    def _observe(self, states: Tensor, sample_shape: torch.Size) -> Tensor:
        """Draw observations in all states, and pick those of the states that were visited."""
        count, event_shape = self.initial_logits.shape[-1], self.observation_dist.event_shape
        shape = (*self._batch_shape, states.shape[-1], count)
        drawn = self.observation_dist.expand(shape).sample(sample_shape)
        dim = -1 - len(event_shape)
        index = states.reshape(states.shape + (1,) * (1 + len(event_shape)))
        return drawn.gather(dim, index.expand((*states.shape, 1, *event_shape))).squeeze(dim)


def scaled(logits: Tensor) -> Fields:
    """Write matrices of logarithms as matrices whose rows have the maximum 1, and logarithms of their scales.

    The scales carry no gradient: what they stand for does not depend on them. Rows of -inf become zero.
    """
    top = logits.detach().amax(-1, keepdim=True)
    top = torch.where(torch.isfinite(top), top, 0.0)
    return (logits - top).exp(), top.squeeze(-1)


def multiply(left: Fields, right: Fields) -> Fields:
    """Multiply scaled matrices, and scale the rows of the product anew."""
    (x, x_scale), (y, y_scale) = left, right
    top = y_scale.amax(-1, keepdim=True)
    product = (x * (y_scale - top).exp().unsqueeze(-2)) @ y
    scale = product.detach().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    return product / scale, x_scale + top + scale.squeeze(-1).log()
