"""Define families on the simplex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions.dirichlet import _Dirichlet

from .conjugacy import log_overlap
from .parameters import ONE, Parameter, pair, table
from .torch_distribution import OwnOrBase, TorchDistribution, carrying, expand_parameters, finish


def draw_dirichlet(concentration: Tensor) -> Tensor:
    """Draw from Dirichlet distributions along the last dim, with implicit gradients if wanted."""
    if concentration.requires_grad and torch.is_grad_enabled():
        return _Dirichlet.apply(concentration)
    return torch._sample_dirichlet(concentration)


class Dirichlet(torch.distributions.Dirichlet, TorchDistribution):
    """The Dirichlet distribution with ``concentration`` (positive) along the last dim.

    :raises ValueError: if ``concentration`` has no dim.
    """

    parameter_dims = table(concentration=1)
    expand = expand_parameters

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        shape = concentration.shape
        TorchDistribution.__init__(self, shape[:-1], shape[-1:], validate_args)

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        concentration = self.concentration
        if sample_shape:
            concentration = concentration.expand(torch.Size(sample_shape) + concentration.shape)
        return draw_dirichlet(concentration)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        concentration = self.concentration
        terms = torch.xlogy(concentration - ONE[concentration.dtype], value) - concentration.lgamma()
        return terms.sum(-1) + concentration.sum(-1).lgamma()

    def conjugate_update(self, other: Any) -> tuple[Any, Tensor]:
        if not isinstance(other, Dirichlet):
            return super().conjugate_update(other)
        updated = Dirichlet(self.concentration + other.concentration - 1.0)
        return updated, log_overlap(self, other, updated, updated.mean)


class LogisticNormal(torch.distributions.LogisticNormal, TorchDistribution):
    """The stick-breaking image of a Gaussian vector; an event has one entry more than ``loc``."""

    expand = carrying(torch.distributions.LogisticNormal.expand)
    has_rsample = OwnOrBase()

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None) -> None:
        super().__init__(*pair(loc, scale), validate_args=False)
        finish(self, validate_args)
