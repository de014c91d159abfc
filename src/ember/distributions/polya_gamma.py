"""Define the Pólya-gamma law that augments logistic likelihoods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import constraints
from .parameters import table
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()


class TruncatedPolyaGamma(TorchDistribution):
    """The Pólya-gamma law PG(1, 0) on (0, 2.5), beyond which it has a probability of 1e-5.

    Polson, Scott & Windle (2013), Bayesian inference for logistic models using Pólya-gamma latent variables.

    :param prototype: a tensor of the batch shape, dtype and device of the draws.
    """

    truncation_point = 2.5
    num_log_prob_terms = 7
    num_gamma_variates = 64

    arg_constraints: dict[str, Any] = table()
    support = constraints.interval(0.0, truncation_point)
    parameter_dims = table(prototype=0)
    expand = expand_parameters

    def __init__(self, prototype: Tensor, validate_args: bool | None = None) -> None:
        self.prototype = prototype
        TorchDistribution.__init__(self, prototype.shape, _EMPTY, validate_args)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Add up weighted exponential variables, and the mean of what is left of the series (equation 2)."""
        like = self.prototype
        count = self.num_gamma_variates
        weights = (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5).square().reciprocal()
        shape = (*self._extended_shape(sample_shape), count)
        variates = torch.empty(shape, dtype=like.dtype, device=like.device).exponential_()
        rest = 0.5 * math.pi**2 - weights.sum()
        value = ((variates * weights).sum(-1) + rest) / (2.0 * math.pi**2)
        return value.clamp(max=self.truncation_point)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        odd = 2.0 * torch.arange(self.num_log_prob_terms, dtype=value.dtype, device=value.device) + 1.0
        # The alternating series, with its first term drawn out.
        signs = 1.0 - (odd - 1.0) % 4.0
        power = -(odd.square() - 1.0) / (8.0 * value.unsqueeze(-1))
        series = (signs * odd * power.exp()).sum(-1)
        log = series.log() - 0.125 / value - 1.5 * value.log() - 0.5 * math.log(2.0 * math.pi)
        return log.expand(torch.broadcast_shapes(log.shape, self._batch_shape))
