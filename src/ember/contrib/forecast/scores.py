"""Score forecasts against what happened."""

from __future__ import annotations

import torch
from torch import Tensor

from ember.ops.stats import crps_empirical


def eval_mae(pred: Tensor, truth: Tensor) -> float:
    """Return the mean absolute error of the forecasts' medians.

    :param pred: draws, ``(N,) + truth.shape``.
    :param truth: what happened.
    """
    return float((pred.median(0).values - truth).abs().mean())


def eval_rmse(pred: Tensor, truth: Tensor) -> float:
    """Return the root of the mean squared error of the forecasts' means.

    :param pred: draws, ``(N,) + truth.shape``.
    :param truth: what happened.
    """
    return float((pred.mean(0) - truth).square().mean().sqrt())


def eval_crps(pred: Tensor, truth: Tensor) -> float:
    """Return the mean continuous ranked probability score.

    Gneiting & Raftery (2007), Strictly proper scoring rules, prediction, and estimation, equation 21.

    :param pred: draws, ``(N,) + truth.shape``.
    :param truth: what happened.
    """
    return float(torch.as_tensor(crps_empirical(pred, truth)).mean())
