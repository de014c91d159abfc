"""Define families on one-hot vectors and on counts by category."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .discrete import Categorical, along_new_dim, categorical_of, draw_index
from .torch_distribution import TorchDistribution, carrying

_EMPTY = torch.Size()


class OneHotCategorical(torch.distributions.OneHotCategorical, TorchDistribution):
    """A one-hot vector of length K, by ``probs`` or ``logits`` along the last dim."""

    expand = carrying(torch.distributions.OneHotCategorical.expand)
    arg_constraints = Categorical.arg_constraints

    def __init__(
        self,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self._categorical = categorical = categorical_of(self, probs, logits, validate_args)
        self._batch_shape = categorical._batch_shape
        self._event_shape = categorical._param.shape[-1:]

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        probs = self._categorical.probs.detach()
        index = draw_index(probs, sample_shape)
        return torch.nn.functional.one_hot(index, self._categorical._num_events).to(probs)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logits = self._categorical.logits
        return torch.where(value == 0, 0.0, value * logits).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        param = self._categorical._param
        return along_new_dim(self, torch.eye(param.shape[-1], dtype=param.dtype, device=param.device), expand)


class OneHotCategoricalStraightThrough(
    torch.distributions.OneHotCategoricalStraightThrough, OneHotCategorical
):
    """A one-hot draw whose gradient is that of the probabilities (Bengio et al. 2013)."""

    has_rsample = True
    expand = carrying(torch.distributions.OneHotCategoricalStraightThrough.expand)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        probs = self._categorical.probs
        return self.sample(sample_shape) + (probs - probs.detach())


class Multinomial(torch.distributions.Multinomial, TorchDistribution):
    """Counts by category of ``total_count`` draws, by ``probs`` or ``logits`` along the last dim.

    :param total_count: number of draws; ignored by ``log_prob``, which takes it from the value.
    """

    expand = carrying(torch.distributions.Multinomial.expand)
    arg_constraints = Categorical.arg_constraints

    def __init__(
        self,
        total_count: int = 1,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        self._categorical = categorical_of(self, probs, logits, validate_args)
        self._batch_shape = self._categorical._batch_shape
        self._event_shape = self._categorical._param.shape[-1:]

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        probs = self._categorical.probs.detach()
        index = draw_index(probs, (self.total_count, *sample_shape))
        counts = torch.zeros(self._extended_shape(sample_shape), dtype=probs.dtype, device=probs.device)
        index = index.movedim(0, -1)
        return counts.scatter_add_(-1, index, torch.ones_like(index, dtype=probs.dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        powers = torch.where(value == 0, 0.0, value * self._categorical.logits)
        return (powers - (value + 1.0).lgamma()).sum(-1) + (value.sum(-1) + 1.0).lgamma()
