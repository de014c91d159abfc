"""Filter and smooth linear Gaussian chains step by step, in the plainest form, as a reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Chain:
    """Parameters of z_t = z_{t-1} F_t + noise(q, Q), x_t = z_t H_t + noise(r, R), with z_0 ~ (m, P)."""

    m: Tensor
    P: Tensor
    F: Tensor
    q: Tensor
    Q: Tensor
    H: Tensor
    r: Tensor
    R: Tensor

    def spread(self, length: int) -> Chain:
        """Give every parameter but the initial ones a dim of time."""
        stretched = [
            getattr(self, n).expand(length, *getattr(self, n).shape[-d:])
            for n, d in {"F": 2, "q": 1, "Q": 2, "H": 2, "r": 1, "R": 2}.items()
        ]
        return Chain(self.m, self.P, *stretched)


def kalman(chain: Chain, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return log likelihood, last filtered mean and covariance, and all smoothed means and covariances."""
    c, length = chain.spread(len(x)), len(x)
    mean, cov = c.m, c.P
    total = torch.zeros((), dtype=x.dtype)
    filtered, predicted = [], []
    for t in range(length):
        mean, cov = mean @ c.F[t] + c.q[t], c.F[t].T @ cov @ c.F[t] + c.Q[t]
        predicted.append((mean, cov))
        innovation = c.H[t].T @ cov @ c.H[t] + c.R[t]
        error = x[t] - mean @ c.H[t] - c.r[t]
        total = total + torch.distributions.MultivariateNormal(torch.zeros_like(error), innovation).log_prob(
            error
        )
        gain = torch.linalg.solve(innovation, c.H[t].T @ cov)
        mean, cov = mean + error @ gain, cov - gain.T @ innovation @ gain
        filtered.append((mean, cov))
    smooth_mean, smooth_cov = filtered[-1]
    means, covs = [smooth_mean], [smooth_cov]
    for t in range(length - 2, -1, -1):
        mean, cov = filtered[t]
        ahead_mean, ahead_cov = predicted[t + 1]
        gain = torch.linalg.solve(ahead_cov, c.F[t + 1].T @ cov)
        smooth_mean = mean + (smooth_mean - ahead_mean) @ gain
        smooth_cov = cov + gain.T @ (smooth_cov - ahead_cov) @ gain
        means.append(smooth_mean)
        covs.append(smooth_cov)
    return total, *filtered[-1], torch.stack(means[::-1]), torch.stack(covs[::-1])


def joint(chain: Chain, length: int) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of all observations as one vector."""
    c = chain.spread(length)
    mean, cov, means = c.m, c.P, []
    between: dict[tuple[int, int], Tensor] = {}
    for t in range(length):
        mean, cov = mean @ c.F[t] + c.q[t], c.F[t].T @ cov @ c.F[t] + c.Q[t]
        between[t, t] = cov
        for s in range(t):
            between[s, t] = between[s, t - 1] @ c.F[t]
        means.append(mean @ c.H[t] + c.r[t])
    rows = []
    for s in range(length):
        row = []
        for t in range(length):
            states = between[s, t] if s <= t else between[t, s].T
            row.append(c.H[s].T @ states @ c.H[t] + (c.R[t] if s == t else 0))
        rows.append(torch.cat(row, -1))
    return torch.cat(means), torch.cat(rows)
