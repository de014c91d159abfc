"""Offer the kernels of Stein variational gradient descent."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ember.errors import message


class SteinKernel(ABC):
    """Base of kernels k(x, y) of which log k and its gradient are computed for all pairs of particles.

    :param bandwidth_factor: multiplies the bandwidth, which is the median of squared distances over
        ``log(N + 1)`` (Liu & Wang 2016, arXiv 1608.04471); None for 1.
    :raises ValueError: if it is not positive.
    """

    def __init__(self, bandwidth_factor: float | None = None) -> None:
        self.bandwidth_factor = bandwidth_factor

    @property
    def bandwidth_factor(self) -> float:
        """What multiplies the bandwidth."""
        return self._bandwidth_factor

    @bandwidth_factor.setter
    def bandwidth_factor(self, value: float | None) -> None:
        if value is not None and not value > 0:
            raise ValueError(f"bandwidth_factor must be positive, got {value}")
        self._bandwidth_factor = 1.0 if value is None else value

    @abstractmethod
    def log_kernel_and_grad(self, particles: Tensor) -> tuple[Tensor, Tensor]:
        """Return log k(x_n, x_m) by coordinate and its gradient with respect to x_n.

        :param particles: ``(N, D)``.
        :returns: both ``(N, N, D)``; the kernel of whole particles is the product over coordinates.
        """

    def _bandwidth(self, squared: Tensor) -> Tensor:
        """Return the bandwidth of each coordinate from the squared differences ``(N, N, D)``."""
        count = squared.shape[0]
        if count < 2:
            raise ValueError(
                message("Stein kernels need at least 2 particles", expected="N >= 2", actual=f"N = {count}")
            )
        first, second = torch.triu_indices(count, count, 1)
        median = squared[first, second].median(0).values
        tiny = torch.finfo(squared.dtype).tiny
        return (self.bandwidth_factor * median / math.log(count + 1)).clamp(min=tiny)


class RBFSteinKernel(SteinKernel):
    """Gaussian kernel ``exp(−(x − y)² / h)``, coordinate by coordinate."""

    @torch.no_grad()
    def log_kernel_and_grad(self, particles: Tensor) -> tuple[Tensor, Tensor]:
        """Return log k and its gradient, both ``(N, N, D)``."""
        difference = particles.unsqueeze(1) - particles.unsqueeze(0)
        squared = difference.square()
        bandwidth = self._bandwidth(squared)
        return -squared / bandwidth, -2.0 * difference / bandwidth


class IMQSteinKernel(SteinKernel):
    """Inverse multiquadric kernel ``(α + (x − y)² / h)^β``, coordinate by coordinate.

    :param alpha: positive number.
    :param beta: negative exponent.
    :param bandwidth_factor: see :class:`SteinKernel`.
    :raises ValueError: for values outside these ranges.
    """

    def __init__(self, alpha: float = 0.5, beta: float = -0.5, bandwidth_factor: float | None = None) -> None:
        if not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha}")
        if not beta < 0:
            raise ValueError(f"beta must be negative, got {beta}")
        super().__init__(bandwidth_factor)
        self.alpha = alpha
        self.beta = beta

    @torch.no_grad()
    def log_kernel_and_grad(self, particles: Tensor) -> tuple[Tensor, Tensor]:
        """Return log k and its gradient, both ``(N, N, D)``."""
        difference = particles.unsqueeze(1) - particles.unsqueeze(0)
        squared = difference.square()
        bandwidth = self._bandwidth(squared)
        base = self.alpha + squared / bandwidth
        return self.beta * base.log(), 2.0 * self.beta * difference / (bandwidth * base)
