"""Compute special functions that densities and quadratures need."""

from __future__ import annotations

import math

import numpy
import torch
from torch import Tensor

from ember.distributions.toroidal import log_bessel


class _SafeLog(torch.autograd.Function):
    """The logarithm, with a gradient that stays finite at zero."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.log()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient / x.clamp(min=torch.finfo(x.dtype).eps)


def safe_log(x: Tensor) -> Tensor:
    """Return the logarithm, whose gradient is finite at zero."""
    return _SafeLog.apply(x)


def log_beta(x: Tensor, y: Tensor, tol: float = 0.0) -> Tensor:
    """Return the logarithm of the beta function.

    :param tol: greatest error that may be traded for speed; the result is exact whatever it is.
    """
    return torch.lgamma(x) + torch.lgamma(y) - torch.lgamma(x + y)


def log_binomial(n: Tensor, k: Tensor, tol: float = 0.0) -> Tensor:
    """Return the logarithm of the binomial coefficient "n choose k", for real numbers too.

    :param tol: greatest error that may be traded for speed; the result is exact whatever it is.
    """
    return torch.lgamma(n + 1.0) - torch.lgamma(k + 1.0) - torch.lgamma(n - k + 1.0)


def log_I1(orders: int, value: Tensor, terms: int = 250) -> Tensor:
    """Return the logarithms of the modified Bessel functions I_0, …, I_orders of positive numbers.

    :param terms: accepted for compatibility; no series is summed.
    :returns: ``(orders + 1,) + value.shape``.
    """
    return log_bessel(orders + 1, value).movedim(-1, 0)


def get_quad_rule(num_quad: int, prototype_tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return nodes and log weights of Gauss-Hermite quadrature for standard normal expectations.

    :param num_quad: number of nodes.
    :param prototype_tensor: a tensor of the dtype and device wanted.
    """
    nodes, weights = numpy.polynomial.hermite.hermgauss(num_quad)
    log_weights = numpy.log(weights) - 0.5 * math.log(math.pi)
    return (
        torch.as_tensor(nodes * math.sqrt(2.0)).to(prototype_tensor),
        torch.as_tensor(log_weights).to(prototype_tensor),
    )


def sparse_multinomial_likelihood(
    total_count: Tensor, nonzero_logits: Tensor, nonzero_value: Tensor
) -> Tensor:
    """Return the sum of multinomial log probabilities, given only the entries with positive counts.

    :param total_count: number of trials of each multinomial.
    :param nonzero_logits: normalised log probabilities of the entries.
    :param nonzero_value: their counts.
    """
    return (
        torch.lgamma(total_count + 1.0).sum()
        - torch.lgamma(nonzero_value + 1.0).sum()
        + (nonzero_value * nonzero_logits).sum()
    )
