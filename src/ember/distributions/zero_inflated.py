"""Define count families with additional zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import lazy_property, logits_to_probs, probs_to_logits
from torch.nn.functional import logsigmoid

from ..errors import message
from .counts import NegativeBinomial, Poisson
from .parameters import Parameter, one, table
from .shapes import broadcast_shape
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()


class ZeroInflatedDistribution(TorchDistribution):
    """A count distribution that is replaced by zero with probability ``gate``.

    :param base_dist: a distribution of counts, with event shape ().
    :param gate: probability of an additional zero, in [0, 1].
    :param gate_logits: log odds of ``gate``; give one of the two.
    """

    arg_constraints = table(gate=constraints.unit_interval, gate_logits=constraints.real)
    parameter_dims = table(base_dist=0, gate=0, gate_logits=0)
    expand = expand_parameters

    def __init__(
        self,
        base_dist: Any,
        *,
        gate: Parameter | None = None,
        gate_logits: Parameter | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if (gate is None) == (gate_logits is None):
            raise ValueError("Either `gate` or `gate_logits` must be specified, but not both.")
        if len(base_dist.event_shape) > 0:
            raise ValueError(
                message(
                    "ZeroInflatedDistribution takes a base distribution of single numbers.",
                    expected="event_shape ()",
                    actual=f"event_shape {tuple(base_dist.event_shape)}",
                )
            )
        name, value = ("gate", one(gate)) if gate is not None else ("gate_logits", one(gate_logits))
        batch = broadcast_shape(value.shape, base_dist.batch_shape)
        self.__dict__[name] = value.expand(batch)
        self.base_dist = base_dist if base_dist.batch_shape == batch else base_dist.expand(batch)
        TorchDistribution.__init__(self, batch, _EMPTY, validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return self.base_dist.support

    @lazy_property
    def gate(self) -> Tensor:
        """Probability of an additional zero."""
        return logits_to_probs(self.gate_logits, is_binary=True)

    @lazy_property
    def gate_logits(self) -> Tensor:
        """Log odds of an additional zero."""
        return probs_to_logits(self.gate, is_binary=True)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        with torch.no_grad():
            zero = torch.bernoulli(self.gate.expand(self._extended_shape(sample_shape))).bool()
            value = self.base_dist.sample(sample_shape)
            return torch.where(zero, torch.zeros_like(value), value)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        counted = self.base_dist.log_prob(value) + logsigmoid(-self.gate_logits)
        return torch.where(value == 0, torch.logaddexp(counted, logsigmoid(self.gate_logits)), counted)

    @property
    def mean(self) -> Tensor:
        return (1.0 - self.gate) * self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        kept = 1.0 - self.gate
        square = self.base_dist.mean.square()
        return kept * (self.base_dist.variance + square) - kept.square() * square

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self.base_dist.enumerate_support(expand)


class ZeroInflatedPoisson(ZeroInflatedDistribution):
    """Poisson counts of mean ``rate`` with additional zeros."""

    support = constraints.nonnegative_integer
    parameter_dims = ZeroInflatedDistribution.parameter_dims
    expand = expand_parameters

    def __init__(
        self,
        rate: Parameter,
        *,
        gate: Parameter | None = None,
        gate_logits: Parameter | None = None,
        validate_args: bool | None = None,
    ) -> None:
        base = Poisson(rate, validate_args=validate_args)
        super().__init__(base, gate=gate, gate_logits=gate_logits, validate_args=validate_args)

    @property
    def rate(self) -> Tensor:
        """Mean of the counts that are not replaced."""
        return self.base_dist.rate


class ZeroInflatedNegativeBinomial(ZeroInflatedDistribution):
    """Negative binomial counts with additional zeros."""

    support = constraints.nonnegative_integer
    parameter_dims = ZeroInflatedDistribution.parameter_dims
    expand = expand_parameters

    def __init__(
        self,
        total_count: Parameter,
        *,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        gate: Parameter | None = None,
        gate_logits: Parameter | None = None,
        validate_args: bool | None = None,
    ) -> None:
        base = NegativeBinomial(total_count, probs=probs, logits=logits, validate_args=validate_args)
        super().__init__(base, gate=gate, gate_logits=gate_logits, validate_args=validate_args)

    @property
    def total_count(self) -> Tensor:
        """Number of failures that end the count."""
        return self.base_dist.total_count

    @property
    def probs(self) -> Tensor:
        """Probability of success."""
        return self.base_dist.probs

    @property
    def logits(self) -> Tensor:
        """Log odds of success."""
        return self.base_dist.logits
