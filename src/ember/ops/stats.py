"""Summarise draws: dependence within chains, quantiles, intervals, information criteria, scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ember.errors import message
from ember.ops.scores import crps_empirical, energy_score_empirical

__all__ = [
    "autocorrelation",
    "autocovariance",
    "crps_empirical",
    "effective_sample_size",
    "energy_score_empirical",
    "fit_generalized_pareto",
    "gelman_rubin",
    "hpdi",
    "pi",
    "quantile",
    "resample",
    "split_gelman_rubin",
    "waic",
    "weighed_quantile",
]


def autocovariance(input: Tensor, dim: int = 0) -> Tensor:
    """Return the autocovariance at lags 0, 1, … along ``dim``, each the mean over all pairs of that lag."""
    x = input.movedim(dim, -1)
    size = x.shape[-1]
    centred = x - x.mean(-1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * size)
    products = torch.fft.irfft(spectrum.abs().square(), n=2 * size)[..., :size]
    pairs = torch.arange(size, 0, -1, dtype=x.dtype, device=x.device)
    return (products / pairs).movedim(-1, dim)


def autocorrelation(input: Tensor, dim: int = 0) -> Tensor:
    """Return the autocorrelation at lags 0, 1, … along ``dim``; 1 everywhere for a constant sequence."""
    covariance = autocovariance(input, dim)
    variance = covariance.narrow(dim, 0, 1)
    constant = variance == 0
    return torch.where(constant, 1.0, covariance / torch.where(constant, 1.0, variance))


def _variances(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance within chains, and the estimate of the whole; chains and draws lead."""
    chains, draws = x.shape[:2]
    within = x.var(1).mean(0)
    whole = within * (draws - 1) / draws
    return within, whole + x.mean(1).var(0) if chains > 1 else whole


def _chains_first(input: Tensor, chain_dim: int, sample_dim: int, least: int) -> Tensor:
    x = input.movedim((chain_dim, sample_dim), (0, 1))
    if x.shape[1] < least:
        raise ValueError(
            message("Too few draws in each chain.", expected=f"at least {least}", actual=x.shape[1])
        )
    return x


def gelman_rubin(input: Tensor, chain_dim: int = 0, sample_dim: int = 1) -> Tensor:
    """Return the potential scale reduction R-hat of two chains or more (Gelman & Rubin 1992).

    :raises ValueError: for less than two chains or draws.
    """
    x = _chains_first(input, chain_dim, sample_dim, 2)
    if x.shape[0] < 2:
        raise ValueError("gelman_rubin takes two chains or more; split_gelman_rubin also takes one")
    within, whole = _variances(x)
    return (whole / within).sqrt()


def split_gelman_rubin(input: Tensor, chain_dim: int = 0, sample_dim: int = 1) -> Tensor:
    """Return R-hat with each chain split in halves.

    :raises ValueError: for less than four draws.
    """
    x = _chains_first(input, chain_dim, sample_dim, 4)
    half = x.shape[1] // 2
    return gelman_rubin(torch.cat([x[:, :half], x[:, -half:]]))


def effective_sample_size(input: Tensor, chain_dim: int = 0, sample_dim: int = 1) -> Tensor:
    """Return the number of independent draws that would estimate the mean as well.

    Autocorrelations are summed by Geyer's (1992) initial monotone sequence of pairs.

    :raises ValueError: for less than two draws.
    """
    x = _chains_first(input, chain_dim, sample_dim, 2)
    chains, draws = x.shape[:2]
    within, whole = _variances(x)
    rho = 1.0 - (within - autocovariance(x, 1).mean(0)) / whole
    rho = torch.cat([torch.ones_like(rho[:1]), rho[1:]])
    pairs = rho[: draws - draws % 2].unflatten(0, (-1, 2)).sum(1)
    positive = torch.cat([pairs[:1], pairs[1:].clamp(min=0.0)])
    monotone = positive.cummin(0).values
    return chains * draws / (2.0 * monotone.sum(0) - 1.0)


def quantile(input: Tensor, probs: float | Sequence[float] | Tensor, dim: int = 0) -> Tensor:
    """Return quantiles along ``dim``, one entry for each of ``probs``; a number removes the dim."""
    levels = torch.as_tensor(probs, dtype=input.dtype, device=input.device)
    result = torch.quantile(input, levels, dim)
    return result if levels.dim() == 0 else result.movedim(0, dim)


def weighed_quantile(
    input: Tensor, probs: Sequence[float] | Tensor, log_weights: Tensor, dim: int = 0
) -> Tensor:
    """Return quantiles of weighed draws, interpolated between the draws' cumulative weights.

    :param probs: probabilities, ``(P,)``.
    :param log_weights: one for each entry along ``dim``, not normalised.
    """
    levels = torch.as_tensor(probs, dtype=input.dtype, device=input.device)
    x, order = input.movedim(dim, -1).sort(-1)
    cumulative = log_weights.softmax(-1)[order].cumsum(-1)
    # The first draw stands for probability 0, the last for 1.
    first = cumulative[..., :1]
    cumulative = (cumulative - first) / (1.0 - first)
    wanted = levels.expand(x.shape[:-1] + levels.shape).contiguous()
    above = torch.searchsorted(cumulative, wanted).clamp(max=x.shape[-1] - 1)
    below = (above - 1).clamp(min=0)
    low, high = cumulative.gather(-1, below), cumulative.gather(-1, above)
    tiny = torch.finfo(x.dtype).tiny
    share = ((wanted - low) / (high - low).clamp(min=tiny)).clamp(0.0, 1.0)
    return torch.lerp(x.gather(-1, below), x.gather(-1, above), share).movedim(-1, dim)


def resample(input: Tensor, num_samples: int, dim: int = 0, replacement: bool = False) -> Tensor:
    """Draw entries along ``dim`` at random, each at most once unless with ``replacement``."""
    weights = torch.ones(input.shape[dim], device=input.device)
    return input.index_select(dim, torch.multinomial(weights, num_samples, replacement))


def pi(input: Tensor, prob: float, dim: int = 0) -> Tensor:
    """Return the ends of the central interval of mass ``prob`` along ``dim``."""
    return quantile(input, [(1.0 - prob) / 2.0, (1.0 + prob) / 2.0], dim)


def hpdi(input: Tensor, prob: float, dim: int = 0) -> Tensor:
    """Return the ends of the narrowest interval that holds the share ``prob`` of the draws along ``dim``."""
    x = input.movedim(dim, 0).sort(0).values
    covered = int(prob * x.shape[0])
    if not 0 < covered < x.shape[0]:
        raise ValueError(
            f"hpdi takes a prob that leaves draws inside and outside, got {prob} of {x.shape[0]}"
        )
    start = (x[covered:] - x[:-covered]).argmin(0, keepdim=True)
    return torch.cat([x.gather(0, start), x.gather(0, start + covered)]).movedim(0, dim)


def waic(
    input: Tensor, log_weights: Tensor | None = None, pointwise: bool = False, dim: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the widely applicable information criterion and the effective number of parameters.

    Watanabe (2010), in the scale of the deviance: lower is better.

    :param input: log likelihoods of observations under draws, draws along ``dim``.
    :param log_weights: log weights of the draws.
    :param pointwise: return terms by observation, not their sums.
    """
    x = input.movedim(dim, -1)
    size = x.shape[-1]
    logs = torch.zeros(size, dtype=x.dtype, device=x.device) if log_weights is None else log_weights
    logs = logs.log_softmax(-1)
    density = (x + logs).logsumexp(-1)
    weights = logs.exp()
    mean = (x * weights).sum(-1, keepdim=True)
    parameters = ((x - mean).square() * weights).sum(-1) * (size / (size - 1))
    criterion = -2.0 * (density - parameters)
    return (criterion, parameters) if pointwise else (criterion.sum(), parameters.sum())


def fit_generalized_pareto(X: Tensor) -> tuple[float, float]:
    """Return the tail index k and scale sigma of positive exceedances.

    Zhang & Stephens (2009), A new and efficient estimation method for the generalized Pareto distribution,
    with the prior of Vehtari et al. (2024, Pareto smoothed importance sampling) that draws k towards 0.5.

    :param X: one dim of exceedances over a threshold.
    """
    if X.dim() != 1 or X.shape[0] < 5:
        raise ValueError(f"expected five exceedances or more in one dim, got shape {tuple(X.shape)}")
    x = X.detach().double().sort().values
    size = x.shape[0]
    count = 30 + int(size**0.5)
    grid = torch.arange(1, count + 1, dtype=torch.double, device=x.device)
    quarter = x[int(size / 4 + 0.5) - 1]
    slopes = (1.0 - (count / (grid - 0.5)).sqrt()) / (3.0 * quarter) + 1.0 / x[-1]
    tails = (-slopes.unsqueeze(-1) * x).log1p().mean(-1)
    weights = (size * ((-slopes / tails).log() - tails - 1.0)).softmax(-1)
    slope = (slopes * weights).sum()
    tail = (-slope * x).log1p().mean()
    sigma = -tail / slope
    return float(tail * size / (size + 10) + 5.0 / (size + 10)), float(sigma)
