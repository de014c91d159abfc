"""Define monotone one-dimensional networks with one hidden layer, invertible by bisection."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions.transforms import Transform
from torch.nn.functional import elu, leaky_relu, logsigmoid, softplus

from .. import constraints

_BOUND, _HALVINGS = 1e3, 60


class DeepSigmoid(Transform):
    """``y = s⁻¹(Σ_k w_k s(a_k x + b_k))`` with a > 0 and w on the simplex (Huang et al. 2018, eq. 8).

    :param slopes: a is their softplus, ``batch + (W,)``.
    :param shifts: b, ``batch + (W,)``.
    :param weights: w is their softmax, ``batch + (W,)``.
    :param activation: s: "sigmoid", "tanh", "ELU" or "leaky_relu".
    :raises ValueError: for another activation.
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = +1

    def __init__(self, slopes: Tensor, shifts: Tensor, weights: Tensor, activation: str = "sigmoid") -> None:
        super().__init__()
        check_activation(activation)
        self.activation = activation
        self.slopes, self.shifts, self.weights = softplus(slopes), shifts, weights

    def _call(self, x: Tensor) -> Tensor:
        return self._image(x, self.slopes, self.shifts, self.weights)

    def _image(self, x: Tensor, slopes: Tensor, shifts: Tensor, weights: Tensor) -> Tensor:
        z = slopes * x.unsqueeze(-1) + shifts
        if self.activation in ("sigmoid", "tanh"):
            upper, lower = _logs_of_parts(self._steep(z), weights.log_softmax(-1))
            return (upper - lower) * (1.0 if self.activation == "sigmoid" else 0.5)
        s = elu(z) if self.activation == "ELU" else leaky_relu(z)
        mean = (weights.softmax(-1) * s).sum(-1)
        if self.activation == "ELU":
            negative = mean < 0
            return torch.where(negative, torch.log1p(torch.where(negative, mean, 0.0)), mean)
        return torch.where(mean < 0, 100.0 * mean, mean)

    def _steep(self, z: Tensor) -> Tensor:
        # tanh is a sigmoid of twice the argument, between -1 and 1.
        return z if self.activation == "sigmoid" else 2.0 * z

    def _inverse(self, y: Tensor) -> Tensor:
        from zuko.utils import bisection

        parameters = (self.slopes, self.shifts, self.weights)
        low, high = torch.full_like(y, -_BOUND), torch.full_like(y, _BOUND)
        return bisection(self._call, y, low, high, n=_HALVINGS, phi=parameters)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        z = self.slopes * x.unsqueeze(-1) + self.shifts
        log_weights = self.weights.log_softmax(-1)
        terms = log_weights + self.slopes.log()
        if self.activation in ("sigmoid", "tanh"):
            z = self._steep(z)
            upper, lower = _logs_of_parts(z, log_weights)
            return (terms + logsigmoid(z) + logsigmoid(-z)).logsumexp(-1) - upper - lower
        if self.activation == "ELU":
            # The slope at negative z is exp(z), that of the inverse at negative y is exp(-y).
            return (terms + z.clamp(max=0.0)).logsumexp(-1) - y.clamp(max=0.0)
        low = torch.full_like(z, 0.01).log()
        slope = (terms + torch.where(z < 0, low, 0.0)).logsumexp(-1)
        return slope - torch.where(y < 0, low[..., 0], 0.0)


def _logs_of_parts(z: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithms of a mean of sigmoids and of what it lacks to one."""
    return (log_weights + logsigmoid(z)).logsumexp(-1), (log_weights + logsigmoid(-z)).logsumexp(-1)


def check_activation(activation: str) -> None:
    """Raise ValueError for an activation that there is not."""
    if activation not in ("sigmoid", "tanh", "ELU", "leaky_relu"):
        raise ValueError(f"activation is 'sigmoid', 'tanh', 'ELU' or 'leaky_relu', got {activation!r}")
