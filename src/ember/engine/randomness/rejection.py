"""Draw gamma, Poisson, binomial and von Mises numbers from keys, each element by attempts of its own.

Element ``e`` takes, in attempt ``a``, the two words of the generator's block ``(e, stream + 2**32 a)``;
attempt 0 serves what is drawn once. Machine code (:mod:`ember.engine.lowering.operations.rejections`) does
the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ember.engine.random import threefry

INVERTED = 10.0  # expected counts below this are drawn by inversion, others by transformed rejection


class Blocks:
    """The uniform numbers of one stream, by element and attempt."""

    def __init__(self, key: Tensor, stream: int) -> None:
        self.key = key.detach().numpy().view(np.uint64)
        self.stream = stream

    def uniforms(self, places: Tensor, attempt: int) -> tuple[Tensor, Tensor]:
        """Return two uniform numbers for each place."""
        words = threefry(self.key, places.numpy().view(np.uint64), self.stream + (attempt << 32))
        first, second = (torch.from_numpy((each >> np.uint64(12)).astype(np.float64)) for each in words)
        return (first + 0.5) * 2.0**-52, (second + 0.5) * 2.0**-52


def _attempt(pending: Tensor, result: Tensor, once: Callable[[Tensor, int], tuple[Tensor, Tensor]]) -> Tensor:
    """Give the pending elements of ``result`` the first value that is accepted."""
    places, attempt = pending.nonzero()[:, 0], 1
    while places.numel():
        value, accepted = once(places, attempt)
        result[places[accepted]] = value[accepted]
        places, attempt = places[~accepted], attempt + 1
    return result


def _log_gamma(key: Tensor, concentration: Tensor, stream: int = 0) -> Tensor:
    a = concentration.detach().to(torch.float64).reshape(-1)
    blocks = Blocks(key, stream)
    shape = torch.where(a < 1.0, a + 1.0, a)
    d = shape - 1.0 / 3.0
    c = 1.0 / torch.sqrt(9.0 * d)

    def once(places: Tensor, attempt: int) -> tuple[Tensor, Tensor]:
        u, other = blocks.uniforms(places, attempt)
        z, d_here = torch.special.ndtri(u), d[places]
        t = 1.0 + c[places] * z
        log_v = 3.0 * torch.log(t)
        bound = 0.5 * z * z + d_here * (1.0 - t * t * t + log_v)
        return log_v, (t > 0.0) & (torch.log(other) < bound)

    log_v = _attempt((a > 0.0) & (a < math.inf), torch.zeros_like(a), once)
    boost, _ = blocks.uniforms(torch.arange(a.numel()), 0)
    result = torch.log(d) + log_v + torch.where(a < 1.0, torch.log(boost) / a, 0.0)
    result = torch.where((a >= 0.0), result, math.nan)
    return result.reshape(concentration.shape)


def _invert(pending: Tensor, u: Tensor, first: Tensor, ratio: Callable[[int], Tensor]) -> Tensor:
    """Return the smallest k with F(k) >= u, adding up probabilities that have the given ratios."""
    probability, total = first.clone(), first.clone()
    result, k = torch.zeros_like(u), 0
    while True:
        pending = pending & (u > total)
        # Far out, rounding may keep the sum below u for ever.
        if k >= 200 or not bool(pending.any()):
            return result
        k += 1
        probability = torch.where(pending, probability * ratio(k), probability)
        total = total + torch.where(pending, probability, 0.0)
        result = torch.where(pending, float(k), result)


def _poisson(key: Tensor, rate: Tensor, stream: int = 0) -> Tensor:
    mu = rate.detach().to(torch.float64).reshape(-1)
    blocks = Blocks(key, stream)
    small, valid = mu < INVERTED, (mu >= 0.0) & (mu < math.inf)
    u, _ = blocks.uniforms(torch.arange(mu.numel()), 0)
    result = _invert(small & valid, u, torch.exp(-mu), lambda k: mu / k)
    log_mu, root = torch.log(mu), torch.sqrt(mu)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    log_alpha = torch.log(1.1239 + 1.1328 / (b - 3.4))
    easy = 0.9277 - 3.6224 / (b - 2.0)

    def once(places: Tensor, attempt: int) -> tuple[Tensor, Tensor]:
        u, v = blocks.uniforms(places, attempt)
        u, mean, b_here, a_here = u - 0.5, mu[places], b[places], a[places]
        us = 0.5 - u.abs()
        k = torch.floor((2.0 * a_here / us + b_here) * u + mean + 0.43)
        left = torch.log(v) + log_alpha[places] - torch.log(a_here / (us * us) + b_here)
        fits = left <= k * log_mu[places] - mean - torch.lgamma(torch.clamp(k, min=0.0) + 1.0)
        rejected = (k < 0.0) | ((us < 0.013) & (v > us))
        return k, ((us >= 0.07) & (v <= easy[places])) | (~rejected & fits)

    result = _attempt(~small & valid, result, once)
    return torch.where(valid, result, math.nan).reshape(rate.shape)


def _binomial(key: Tensor, count: Tensor, prob: Tensor, stream: int = 0) -> Tensor:
    count, prob = torch.broadcast_tensors(count.detach().to(torch.float64), prob.detach().to(torch.float64))
    n, given = count.reshape(-1), prob.reshape(-1)
    blocks = Blocks(key, stream)
    valid = (n >= 0.0) & (n < math.inf) & (given >= 0.0) & (given <= 1.0)
    p = torch.where(given > 0.5, 1.0 - given, given)
    q, odds = 1.0 - p, p / (1.0 - p)
    small = n * p < INVERTED
    u, _ = blocks.uniforms(torch.arange(n.numel()), 0)
    result = _invert(small & valid, u, torch.exp(n * torch.log1p(-p)), lambda k: odds * (n - (k - 1.0)) / k)
    spread = torch.sqrt(n * p * q)
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    easy = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * spread
    mode = torch.floor((n + 1.0) * p)
    peak = torch.lgamma(mode + 1.0) + torch.lgamma(n - mode + 1.0)
    log_odds = torch.log(odds)

    def once(places: Tensor, attempt: int) -> tuple[Tensor, Tensor]:
        u, v = blocks.uniforms(places, attempt)
        u, n_here, a_here, b_here = u - 0.5, n[places], a[places], b[places]
        us = 0.5 - u.abs()
        k = torch.floor((2.0 * a_here / us + b_here) * u + n_here * p[places] + 0.5)
        outside = (k < 0.0) | (k > n_here)
        inside = torch.where(outside, 0.0, k)
        left = torch.log(v * alpha[places] / (a_here / (us * us) + b_here))
        ways = torch.lgamma(inside + 1.0) + torch.lgamma(n_here - inside + 1.0)
        fits = left <= peak[places] - ways + (inside - mode[places]) * log_odds[places]
        return k, ((us >= 0.07) & (v <= easy[places])) | (~outside & fits)

    result = _attempt(~small & valid, result, once)
    result = torch.where(given > 0.5, n - result, result)
    return torch.where(valid, result, math.nan).reshape(count.shape)


def _von_mises(key: Tensor, concentration: Tensor, stream: int = 0) -> Tensor:
    kappa = concentration.detach().to(torch.float64).reshape(-1)
    blocks = Blocks(key, stream)
    valid = (kappa >= 0.0) & (kappa < math.inf)
    tau = 1.0 + torch.sqrt(1.0 + 4.0 * kappa * kappa)
    width = tau + torch.sqrt(2.0 * tau)
    rho = 2.0 * kappa / width  # of the wrapped Cauchy distribution that proposes
    height = 0.25 * width * (1.0 - rho * rho) ** 2

    def once(places: Tensor, attempt: int) -> tuple[Tensor, Tensor]:
        u, v = blocks.uniforms(places, attempt)
        half, rho_here = torch.tan(math.pi * u), rho[places]
        z = (1.0 - half * half) / (1.0 + half * half)
        c = height[places] / (1.0 + rho_here * rho_here + 2.0 * rho_here * z)
        angle = 2.0 * torch.atan((1.0 - rho_here) / (1.0 + rho_here) * half)
        return angle, torch.log(c / v) + 1.0 - c >= 0.0

    result = _attempt(valid, torch.zeros_like(kappa), once)
    return torch.where(valid, result, math.nan).reshape(concentration.shape)


_library = torch.library.Library("ember", "FRAGMENT")
_library.define("log_gamma(Tensor key, Tensor concentration, int stream=0) -> Tensor")
_library.define("poisson(Tensor key, Tensor rate, int stream=0) -> Tensor")
_library.define("binomial(Tensor key, Tensor count, Tensor prob, int stream=0) -> Tensor")
_library.define("von_mises_from_key(Tensor key, Tensor concentration, int stream=0) -> Tensor")
_library.impl("log_gamma", _log_gamma, "CPU")
_library.impl("poisson", _poisson, "CPU")
_library.impl("binomial", _binomial, "CPU")
_library.impl("von_mises_from_key", _von_mises, "CPU")


def _blank(*parameters: Tensor) -> Tensor:
    shape = torch.broadcast_tensors(*parameters)[0].shape
    return torch.empty(shape, dtype=torch.float64, device="meta")


# Shapes alone, for captures.
_library.impl("log_gamma", lambda key, concentration, stream=0: _blank(concentration), "Meta")
_library.impl("poisson", lambda key, rate, stream=0: _blank(rate), "Meta")
_library.impl("binomial", lambda key, count, prob, stream=0: _blank(count, prob), "Meta")
_library.impl("von_mises_from_key", lambda key, concentration, stream=0: _blank(concentration), "Meta")


def log_gamma(key: Tensor, concentration: Tensor, stream: int = 0) -> Tensor:
    """Draw the logarithms, float64, of gamma variables of rate 1; they do not underflow.

    Marsaglia & Tsang (2000), *A simple method for generating gamma variables*, section 2; concentrations
    below 1 by their section 6.
    """
    return torch.ops.ember.log_gamma(key, concentration, stream)


def poisson(key: Tensor, rate: Tensor, stream: int = 0) -> Tensor:
    """Draw Poisson numbers, as float64.

    By inversion for small rates, else by algorithm PTRS of Hörmann (1993), *The transformed rejection method
    for generating Poisson random variables*.
    """
    return torch.ops.ember.poisson(key, rate, stream)


def binomial(key: Tensor, count: Tensor, prob: Tensor, stream: int = 0) -> Tensor:
    """Draw binomial numbers, as float64; ``count`` and ``prob`` broadcast.

    By inversion where few successes are expected, else by algorithm BTRS of Hörmann (1993), *The generation
    of binomial random variates*.
    """
    return torch.ops.ember.binomial(key, count, prob, stream)


def von_mises(key: Tensor, concentration: Tensor, stream: int = 0) -> Tensor:
    """Draw angles around 0, as float64, from von Mises distributions.

    Best & Fisher (1979), *Efficient simulation of the von Mises distribution*, section 3.
    """
    return torch.ops.ember.von_mises_from_key(key, concentration, stream)
