"""Define densities with known distributions, hand-written gradients and exact draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.special
import scipy.stats
import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """A density whose draws can be turned into independent standard normal numbers and back."""

    name: str
    dimension: int
    density: Callable[[Tensor], tuple[Tensor, Tensor]]
    draw: Callable[[Tensor], Tensor]  # standard normal [..., D] -> exact draws [..., D]
    pivots: Callable[[Tensor], Tensor]  # draws [..., D] -> standard normal [..., D]

    def __str__(self) -> str:
        return self.name


class Counter:
    """Count the calls of a density."""

    def __init__(self, density):
        self.density = density
        self.calls = 0

    def __call__(self, z):
        self.calls += 1
        return self.density(z)


def normal(scales, name="normal") -> Target:
    scales = torch.as_tensor(scales, dtype=torch.float64)

    def density(z):
        y = z / scales
        return -0.5 * torch.dot(y, y), -y / scales

    return Target(name, len(scales), density, lambda e: e * scales, lambda z: z / scales)


def correlated(dimension=6, seed=0, name="correlated") -> Target:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    covariance = root @ root.T / dimension + 0.2 * torch.eye(dimension, dtype=torch.float64)
    mean = torch.randn(dimension, generator=generator, dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance)
    precision = torch.linalg.inv(covariance)

    def density(z):
        gradient = -torch.mv(precision, z - mean)
        return 0.5 * torch.dot(z - mean, gradient), gradient

    def pivots(z):
        return torch.linalg.solve_triangular(factor, (z - mean).reshape(-1, dimension).T, upper=False).T

    return Target(name, dimension, density, lambda e: mean + e @ factor.T, pivots)


def student_t(dimension=3, degrees=5.0) -> Target:
    def density(z):
        square = z * z / degrees
        log_density = -0.5 * (degrees + 1) * torch.log1p(square).sum()
        return log_density, -(degrees + 1) * z / degrees / (1 + square)

    def draw(e):
        return torch.from_numpy(scipy.stats.t.ppf(scipy.special.ndtr(e.numpy()), degrees))

    def pivots(z):
        return torch.from_numpy(scipy.special.ndtri(scipy.stats.t.cdf(z.numpy(), degrees)))

    return Target("student_t", dimension, density, draw, pivots)


def banana() -> Target:
    def density(z):
        x, y = z[0], z[1]
        rest = y - 0.5 * x * x
        return -0.5 * (x * x + rest * rest), torch.stack([-x + rest * x, -rest])

    def draw(e):
        return torch.stack([e[..., 0], 0.5 * e[..., 0] ** 2 + e[..., 1]], -1)

    def pivots(z):
        return torch.stack([z[..., 0], z[..., 1] - 0.5 * z[..., 0] ** 2], -1)

    return Target("banana", 2, density, draw, pivots)


def funnel(dimension=4, width=0.7) -> Target:
    """A mild funnel: y ~ N(0, width²), x ~ N(0, exp(y))."""

    def density(z):
        y, x = z[0], z[1:]
        precision = torch.exp(-y)
        squares = torch.dot(x, x) * precision
        log_density = -0.5 * (y / width) ** 2 - 0.5 * squares - 0.5 * (dimension - 1) * y
        slope = -y / width**2 + 0.5 * squares - 0.5 * (dimension - 1)
        return log_density, torch.cat([slope.reshape(1), -x * precision])

    def draw(e):
        y = width * e[..., :1]
        return torch.cat([y, torch.exp(0.5 * y) * e[..., 1:]], -1)

    def pivots(z):
        return torch.cat([z[..., :1] / width, z[..., 1:] * torch.exp(-0.5 * z[..., :1])], -1)

    return Target("funnel", dimension, density, draw, pivots)


def exact_draws(target: Target, number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return target.draw(torch.randn(number, target.dimension, generator=generator, dtype=torch.float64))


def effective_size(values: np.ndarray) -> float:
    """Estimate the effective sample size of one chain by Geyer's initial monotone sequence (1992)."""
    number = len(values)
    centred = values - values.mean()
    spectrum = np.abs(np.fft.rfft(centred, 2 * number)) ** 2
    correlation = np.fft.irfft(spectrum)[:number]
    correlation = correlation / correlation[0]
    pairs = correlation[0 : number - 1 : 2] + correlation[1:number:2]
    stop = int(np.argmax(pairs < 0)) if (pairs < 0).any() else len(pairs)
    time = 2 * np.minimum.accumulate(pairs[:stop]).sum() - 1
    return number / max(time, 1 / math.log10(number))


def largest_z_score(pivots: Tensor) -> float:
    """Compare draws with the standard normal: mean, square and three quantiles, in standard errors."""
    worst = 0.0
    for column in pivots.numpy().T:
        statistics = [(column, 0.0, 1.0), (column**2, 1.0, 2.0)]
        for probability in (0.1, 0.5, 0.9):
            below = (column < scipy.special.ndtri(probability)).astype(float)
            statistics.append((below, probability, probability * (1 - probability)))
        for values, mean, variance in statistics:
            error = math.sqrt(variance / effective_size(values))
            worst = max(worst, abs(values.mean() - mean) / error)
    return worst


def smallest_p_value(pivots: Tensor) -> float:
    """Kolmogorov–Smirnov tests of independent draws: every coordinate, and the sum of squares."""
    squares = (pivots**2).sum(-1).numpy()
    tests = [scipy.stats.kstest(column, "norm").pvalue for column in pivots.numpy().T]
    tests.append(scipy.stats.kstest(squares, scipy.stats.chi2(pivots.shape[1]).cdf).pvalue)
    return min(tests) * len(tests)
