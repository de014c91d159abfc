"""Define hidden Markov models with finitely many states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ...errors import message
from ..discrete import Categorical
from ..gaussian_algebra.reduction import reduce_time
from ..parameters import table
from ..shapes import broadcast_shape
from .hidden_markov_model import HiddenMarkovModel
from .time_slices import time_slice
from .transfer_matrices import draw_paths, event_dims, logarithm, matrices, multiply

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
        return self._last(self._scored(value), value.shape[-self.event_dim])

    def _last(self, scores: Tensor, length: int) -> Tensor:
        """Return what :meth:`_final` does, for scores of observations."""
        logits = self.transition_logits + scores.unsqueeze(-2)
        steps = matrices(logits.unsqueeze(0) if logits.dim() == 2 else logits)
        whole = reduce_time(steps, event_dims(steps), length, multiply)
        start = matrices(self.initial_logits.to(steps[0].dtype).unsqueeze(-2))
        return logarithm(multiply(start, whole)).squeeze(-2)

    def filter(self, value: Tensor) -> Categorical:
        """Return the posterior of the last state.

        :param value: observations, ``batch + (T,) + event_shape of one``.
        """
        if self._validate_args:
            self._validate_sample(value)
        final = self._final(value)
        return Categorical(logits=final.expand(self._batch_with(value) + final.shape[-1:]))

    def smooth(self, value: Tensor) -> Categorical:
        """Return the posteriors of the states z_1, …, z_T, each given all observations.

        They are the derivatives of the log likelihood by the log densities of the observations.

        :param value: observations, ``batch + (T,) + event_shape of one``.
        :returns: a Categorical of batch shape ``batch + (T,)``.
        """
        if self._validate_args:
            self._validate_sample(value)
        length, count = value.shape[-self.event_dim], self.initial_logits.shape[-1]
        # Each sequence has scores of its own, also where several share their observations.
        scores = self._scored(value).expand((*self._batch_with(value), length, count)).clone()
        parameters = (scores, self.initial_logits, self.transition_logits)
        differentiable = torch.is_grad_enabled() and any(each.requires_grad for each in parameters)
        with torch.enable_grad():
            if not scores.requires_grad:
                scores.requires_grad_()
            evidence = self._last(scores, length).logsumexp(-1).sum()
            (probs,) = torch.autograd.grad(evidence, scores, create_graph=differentiable)
        return Categorical(probs=probs)

    def sample_posterior(self, value: Tensor, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw the states z_1, …, z_T jointly, given the observations, in O(log T) depth.

        :param value: observations, ``batch + (T,) + event_shape of one``.
        :returns: integers, ``sample_shape + batch + (T,)``.
        """
        if self._validate_args:
            self._validate_sample(value)
        with torch.no_grad():
            logits = self.transition_logits + self._scored(value).unsqueeze(-2)
            return self._draw(logits, self._batch_with(value), value.shape[-self.event_dim], sample_shape)

    def _draw(self, logits: Tensor, batch: torch.Size, length: int, sample_shape: Sequence[int]) -> Tensor:
        """Draw states by the logits of the steps."""
        count = logits.shape[-1]
        steps = matrices(logits.expand((*batch, length, count, count)))
        initial_logits = self.initial_logits.to(logits.dtype).expand((*batch, count))
        return draw_paths(initial_logits, steps, tuple(sample_shape))[..., 1:]

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
        states = self._draw(self.transition_logits, self._batch_shape, self._known_duration(), sample_shape)
        return self._observe(states, torch.Size(sample_shape))

    def _observe(self, states: Tensor, sample_shape: torch.Size) -> Tensor:
        """Draw observations in all states, and pick those of the states that were visited."""
        count, event_shape = self.initial_logits.shape[-1], self.observation_dist.event_shape
        shape = (*self._batch_shape, states.shape[-1], count)
        drawn = self.observation_dist.expand(shape).sample(sample_shape)
        dim = -1 - len(event_shape)
        index = states.reshape(states.shape + (1,) * (1 + len(event_shape)))
        return drawn.gather(dim, index.expand((*states.shape, 1, *event_shape))).squeeze(dim)
