"""Define differentiable relaxations of discrete families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical as _TorchExpRelaxedCategorical
from torch.distributions.transforms import ExpTransform, SigmoidTransform

from .discrete import Categorical, categorical_of, either
from .noise import exponential
from .parameters import Parameter, one, pair, table
from .torch_distribution import TorchDistribution, carrying, expand_parameters, finish

_EMPTY = torch.Size()
_TransformedDistribution = torch.distributions.TransformedDistribution


class LogitRelaxedBernoulli(torch.distributions.relaxed_bernoulli.LogitRelaxedBernoulli, TorchDistribution):
    """The log odds of a relaxed binary variable: a logistic variable divided by ``temperature``."""

    parameter_dims = table(temperature=0, probs=0, logits=0, _param=0)
    expand = expand_parameters

    def __init__(
        self,
        temperature: Parameter,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, value = either("RelaxedBernoulli", probs, logits)
        value, heat = pair(value, temperature)
        state = self.__dict__
        state["temperature"] = heat
        state[name] = state["_param"] = value
        TorchDistribution.__init__(self, value.shape, _EMPTY, validate_args)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        above = exponential(self._param, self, sample_shape).log()
        noise = above - torch.empty_like(above).exponential_().log()
        return (noise + self.logits) / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = self.logits - value * self.temperature
        return self.temperature.log() + z - 2.0 * torch.nn.functional.softplus(z)


class RelaxedBernoulli(torch.distributions.RelaxedBernoulli, TorchDistribution):
    """A differentiable relaxation of a binary variable, on the unit interval (Maddison et al. 2017)."""

    expand = carrying(torch.distributions.RelaxedBernoulli.expand)
    arg_constraints = table(probs=constraints.unit_interval, logits=constraints.real)

    def __init__(
        self,
        temperature: Parameter,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ) -> None:
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args)
        base._validate_args = False
        _TransformedDistribution.__init__(self, base, [SigmoidTransform()], validate_args=False)
        finish(self, validate_args)


class RelaxedBernoulliStraightThrough(RelaxedBernoulli):
    """A binary draw going forward, the relaxed draw's gradient going back.

    ``log_prob`` of a draw is the relaxed density at the relaxed draw.
    """

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        soft = super().rsample(torch.Size(sample_shape))
        return _straight_through(soft.round(), soft)

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(getattr(value, "_ember_relaxed", value))


class ExpRelaxedCategorical(_TorchExpRelaxedCategorical, TorchDistribution):
    """The logarithm of a relaxed one-hot vector."""

    expand = carrying(_TorchExpRelaxedCategorical.expand)
    arg_constraints = Categorical.arg_constraints

    def __init__(
        self,
        temperature: Parameter,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self._categorical = categorical_of(self, probs, logits, validate_args)
        self.temperature = one(temperature)
        self._batch_shape = self._categorical._batch_shape
        self._event_shape = self._categorical._param.shape[-1:]

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        logits = self._categorical.logits
        noise = torch.empty(self._extended_shape(sample_shape), dtype=logits.dtype, device=logits.device)
        return ((logits - noise.exponential_().log()) / self.temperature).log_softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n, temperature = self._event_shape[0], self.temperature
        score = (self._categorical.logits - value * temperature).log_softmax(-1).sum(-1)
        count = torch.full_like(score, float(n))
        return score + count.lgamma() + (n - 1) * temperature.log()


class RelaxedOneHotCategorical(torch.distributions.RelaxedOneHotCategorical, TorchDistribution):
    """The Concrete distribution: a differentiable relaxation of a one-hot vector (Maddison et al. 2017)."""

    expand = carrying(torch.distributions.RelaxedOneHotCategorical.expand)
    arg_constraints: dict[str, Any] = table()

    def __init__(
        self,
        temperature: Parameter,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if validate_args is not None:
            self._validate_args = validate_args
        categorical_of(self, probs, logits, validate_args)
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args=False)
        _TransformedDistribution.__init__(self, base, [ExpTransform()], validate_args=False)
        finish(self, validate_args)


class RelaxedOneHotCategoricalStraightThrough(RelaxedOneHotCategorical):
    """A one-hot draw going forward, the relaxed draw's gradient going back.

    ``log_prob`` of a draw is the relaxed density at the relaxed draw.
    """

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        soft = super().rsample(torch.Size(sample_shape))
        hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
        return _straight_through(hard, soft)

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(getattr(value, "_ember_relaxed", value))


def _straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return ``hard`` with the gradient of ``soft``, which is kept on the tensor for ``log_prob``."""
    value = hard.detach() + (soft - soft.detach())
    value._ember_relaxed = soft  # type: ignore[attr-defined]
    return value
