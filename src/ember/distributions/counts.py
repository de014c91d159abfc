"""Define families on counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions.utils import clamp_probs, lazy_property, logits_to_probs, probs_to_logits
from torch.nn.functional import logsigmoid

from .constraints import integer
from .discrete import along_new_dim, either
from .parameters import ONE, Parameter, one, pair, table
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()


def log_binomial_coefficient(n: Tensor, k: Tensor) -> Tensor:
    """Return log(n choose k), elementwise."""
    unit = ONE[n.dtype]
    return (n + unit).lgamma() - (k + unit).lgamma() - (n - k + unit).lgamma()


class Poisson(torch.distributions.Poisson, TorchDistribution):
    """Number of events with mean ``rate`` (nonnegative).

    :param is_sparse: accepted for compatibility; says that most counts are zero.
    """

    parameter_dims = table(rate=0)
    expand = expand_parameters

    def __init__(
        self, rate: Parameter, *, is_sparse: bool = False, validate_args: bool | None = None
    ) -> None:
        self.rate = rate = one(rate)
        self.is_sparse = is_sparse
        TorchDistribution.__init__(self, rate.shape, _EMPTY, validate_args)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        rate = self.rate.detach()
        return torch.poisson(rate.expand(self._extended_shape(sample_shape)) if sample_shape else rate)

    def log_prob(self, value: Tensor) -> Tensor:
        rate = self.rate
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=rate.dtype, device=rate.device)
        if self._validate_args:
            self._validate_sample(value)
        return torch.xlogy(value, rate) - rate - (value + ONE[rate.dtype]).lgamma()


class Binomial(torch.distributions.Binomial, TorchDistribution):
    """Number of successes in ``total_count`` trials, by ``probs`` or ``logits``."""

    parameter_dims = table(total_count=0, probs=0, logits=0, _param=0)
    expand = expand_parameters

    def __init__(
        self,
        total_count: Tensor | int = 1,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, value = either("Binomial", probs, logits)
        count, value = pair(total_count, value)
        if not value.dtype.is_floating_point:
            value = value.to(torch.get_default_dtype())
        state = self.__dict__
        state["total_count"] = count.to(value.dtype)
        state[name] = state["_param"] = value
        TorchDistribution.__init__(self, value.shape, _EMPTY, validate_args)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        count, probs = self.total_count.detach(), self.probs.detach()
        if sample_shape:
            shape = self._extended_shape(sample_shape)
            count, probs = count.expand(shape), probs.expand(shape)
        return torch.binomial(count, probs)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n = self.total_count
        if "logits" in self.__dict__:
            success, failure = logsigmoid(self.logits), logsigmoid(-self.logits)
        else:
            probs = clamp_probs(self.probs)
            success, failure = probs.log(), (-probs).log1p()
        powers = value * success + (n - value) * failure
        return powers + log_binomial_coefficient(n, value)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return along_new_dim(self, count_up_to(self.total_count), expand)


def count_up_to(total_count: Tensor) -> Tensor:
    """Return 0 … n as a vector.

    :raises NotImplementedError: if ``total_count`` is not the same everywhere.
    """
    most = int(total_count.max())
    if not bool(total_count.min() == most):
        raise NotImplementedError("Inhomogeneous total count not supported by `enumerate_support`.")
    return torch.arange(1 + most, dtype=total_count.dtype, device=total_count.device)


class ExtendedBinomial(Binomial):
    """Binomial over all integers: ``log_prob`` is -inf, and no error, outside of 0 … ``total_count``."""

    support = integer

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        inside = (value >= 0) & (value <= self.total_count)
        safe = torch.where(inside, value, torch.zeros_like(value))
        return torch.where(inside, super().log_prob(safe), -torch.inf)


class Geometric(torch.distributions.Geometric, TorchDistribution):
    """Number of failures before the first success, by ``probs`` in (0, 1] or ``logits``."""

    parameter_dims = table(probs=0, logits=0)
    expand = expand_parameters

    def __init__(
        self,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, value = either("Geometric", probs, logits)
        self.__dict__[name] = value = one(value)
        TorchDistribution.__init__(self, value.shape, _EMPTY, validate_args)

    @lazy_property
    def probs(self) -> Tensor:
        return logits_to_probs(self.logits, is_binary=True)

    @lazy_property
    def logits(self) -> Tensor:
        return probs_to_logits(self.probs, is_binary=True)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        with torch.no_grad():
            noise = torch.empty(self._extended_shape(sample_shape)).to(self.probs).exponential_()
            return (noise / -torch.log1p(-self.probs)).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        if "logits" in self.__dict__:
            return value * logsigmoid(-self.logits) + logsigmoid(self.logits)
        return torch.special.xlog1py(value, -self.probs) + self.probs.log()


class NegativeBinomial(torch.distributions.NegativeBinomial, TorchDistribution):
    """Number of successes before ``total_count`` failures, by ``probs`` of success or ``logits``."""

    parameter_dims = table(total_count=0, probs=0, logits=0, _param=0)
    expand = expand_parameters

    def __init__(
        self,
        total_count: Parameter,
        probs: Parameter | None = None,
        logits: Parameter | None = None,
        validate_args: bool | None = None,
    ) -> None:
        name, value = either("NegativeBinomial", probs, logits)
        state = self.__dict__
        state["total_count"], value = pair(total_count, value)
        state[name] = state["_param"] = value
        TorchDistribution.__init__(self, value.shape, _EMPTY, validate_args)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            rate = torch._standard_gamma(self.total_count.expand(shape)) * self.logits.exp()
            return torch.poisson(rate)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        r, logits = self.total_count, self.logits
        powers = r * logsigmoid(-logits) + value * logsigmoid(logits)
        # At r = 0 all mass is at zero and two infinite terms meet.
        safe = torch.where(r > 0, r, 1.0)
        density = powers + (safe + value).lgamma() - (value + 1.0).lgamma() - safe.lgamma()
        return torch.where(r > 0, density, torch.where(value == 0, 0.0, -torch.inf))
