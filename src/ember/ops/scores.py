"""Score forecasts that are given as draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ember.errors import message


def _check(pred: Tensor, truth: Tensor) -> None:
    if pred.shape[1:] != truth.shape:
        raise ValueError(
            message(
                "Forecasts must have the shape of the truth, after a leading dim of draws.",
                expected=f"(draws, {', '.join(map(str, truth.shape))})",
                actual=tuple(pred.shape),
            )
        )


def crps_empirical(pred: Tensor, truth: Tensor) -> Tensor:
    """Return the continuous ranked probability score E|X - y| - ½ E|X - X'| of each entry; lower is better.

    Gneiting & Raftery (2007), Strictly proper scoring rules, prediction, and estimation, equation 21.

    :param pred: draws, ``(N,) + truth.shape``.
    :param truth: what happened.
    """
    _check(pred, truth)
    size = pred.shape[0]
    if size == 1:
        return (pred[0] - truth).abs()
    ordered = pred.sort(dim=0).values
    gaps = ordered[1:] - ordered[:-1]
    below = torch.arange(1, size, dtype=pred.dtype, device=pred.device)
    weights = (below * (size - below)).reshape((-1,) + (1,) * truth.dim())
    return (pred - truth).abs().mean(0) - (gaps * weights).sum(0) / size**2


def energy_score_empirical(
    pred: Tensor,
    truth: Tensor,
    pred_batch_size: int | None = None,
    cdist: Callable[[Tensor, Tensor], Tensor] = torch.cdist,
) -> Tensor:
    """Return the energy score E‖X - y‖ - ½ E‖X - X'‖ of vectors; lower is better.

    Gneiting & Raftery (2007), section 4.3.

    :param pred: draws, ``batch + (N, D)``.
    :param truth: what happened, ``batch + (D,)``, or several outcomes, ``batch + (R, D)``.
    :param pred_batch_size: number of draws whose distances to all others are held in memory at once.
    :param cdist: distances of vectors ``(..., P, D)`` and ``(..., R, D)``, as ``torch.cdist`` computes them.
    :returns: ``batch``, or ``batch + (R,)``.
    """
    single = truth.dim() == pred.dim() - 1
    outcomes = truth.unsqueeze(-2) if single else truth
    if outcomes.dim() != pred.dim() or outcomes.shape[-1] != pred.shape[-1]:
        raise ValueError(
            message(
                "Forecasts and truth must be vectors of one size.",
                expected="pred batch + (N, D), truth batch + (D,)",
                actual=f"{tuple(pred.shape)}, {tuple(truth.shape)}",
            )
        )
    size = pred.shape[-2]
    apart = cdist(pred, outcomes).mean(-2)
    total = torch.zeros_like(apart[..., 0])
    for part in pred.split(pred_batch_size or size, dim=-2):
        total = total + cdist(part, pred).sum((-1, -2))
    score = apart - 0.5 * total.unsqueeze(-1) / size**2
    return score.squeeze(-1) if single else score
