"""Define batch normalisation as a bijection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import constraints
from .modules import TransformModule


class BatchNorm(TransformModule):
    """Batch normalisation between the transforms of a flow (Dinh et al. 2016, arXiv 1605.08803).

    The inverse, the direction in which data are scored, normalises: in training mode by mean and variance of
    the batch, which move the running ones; in evaluation mode by the running ones, like the forward direction
    in both modes.

    :param input_dim: dimension D.
    :param momentum: weight of a batch in the running mean and variance.
    :param epsilon: added to variances.
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    moving_mean: Tensor
    moving_variance: Tensor

    def __init__(self, input_dim: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.input_dim, self.momentum, self.epsilon = input_dim, momentum, epsilon
        self.gamma = nn.Parameter(torch.ones(input_dim))
        self.beta = nn.Parameter(torch.zeros(input_dim))
        self.register_buffer("moving_mean", torch.zeros(input_dim))
        self.register_buffer("moving_variance", torch.ones(input_dim))

    @property
    def constrained_gamma(self) -> Tensor:
        """The scale after normalisation, positive."""
        return torch.relu(self.gamma) + 1e-6

    def _call(self, x: Tensor) -> Tensor:
        spread = (self.moving_variance + self.epsilon).sqrt()
        return (x - self.beta) / self.constrained_gamma * spread + self.moving_mean

    def _statistics(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance to normalise by: those of the batch, or the running ones."""
        if not self.training:
            return self.moving_mean, self.moving_variance
        rows = y.reshape(-1, y.shape[-1])
        return rows.mean(0), rows.var(0)

    def _inverse(self, y: Tensor) -> Tensor:
        mean, variance = self._statistics(y)
        if self.training:
            with torch.no_grad():
                self.moving_mean.lerp_(mean, self.momentum)
                self.moving_variance.lerp_(variance, self.momentum)
        return (y - mean) * self.constrained_gamma / (variance + self.epsilon).sqrt() + self.beta

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log |∂y/∂x|, of the shape of ``x``."""
        _, variance = self._statistics(y)
        return (0.5 * (variance + self.epsilon).log() - self.constrained_gamma.log()).expand_as(x)
