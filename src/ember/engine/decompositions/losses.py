"""Compute loss functions and their gradients from simpler operations."""

from __future__ import annotations

import torch
from torch import Tensor

from ember.engine.decompositions.activations import log_sigmoid


def reduced(x: Tensor, reduction: int) -> Tensor:
    return x if reduction == 0 else x.mean() if reduction == 1 else x.sum()


def spread(gradient: Tensor, x: Tensor, reduction: int) -> Tensor:
    return gradient / x.numel() if reduction == 1 else gradient


def huber(x: Tensor, target: Tensor, reduction: int = 1, delta: float = 1.0) -> Tensor:
    z = (x - target).abs()
    return reduced(torch.where(z <= delta, 0.5 * z * z, delta * (z - 0.5 * delta)), reduction)


def huber_backward(gradient: Tensor, x: Tensor, target: Tensor, reduction: int, delta: float) -> Tensor:
    return spread(gradient, x, reduction) * torch.clamp(x - target, -delta, delta)


def smooth_l1(x: Tensor, target: Tensor, reduction: int = 1, beta: float = 1.0) -> Tensor:
    z = (x - target).abs()
    return reduced(z if beta == 0 else torch.where(z < beta, 0.5 * z * z / beta, z - 0.5 * beta), reduction)


def smooth_l1_backward(gradient: Tensor, x: Tensor, target: Tensor, reduction: int, beta: float) -> Tensor:
    z = x - target
    slope = torch.sign(z) if beta == 0 else torch.clamp(z / beta, -1, 1)
    return spread(gradient, x, reduction) * slope


def cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1) -> Tensor:
    # The eager kernel limits each logarithm to -100.
    low = torch.clamp(torch.log(x), min=-100)
    high = torch.clamp(torch.log1p(-x), min=-100)
    loss = (target - 1) * high - target * low
    return reduced(loss if weight is None else loss * weight, reduction)


def cross_entropy_backward(
    gradient: Tensor, x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1
) -> Tensor:
    slope = gradient * (x - target) / torch.clamp((1 - x) * x, min=1e-12)
    return spread(slope if weight is None else slope * weight, x, reduction)


def cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = 1,
) -> Tensor:
    log_probability = log_sigmoid(x)[0]
    if pos_weight is None:
        loss = (1 - target) * x - log_probability
    else:
        loss = (1 - target) * x - ((pos_weight - 1) * target + 1) * log_probability
    return reduced(loss if weight is None else loss * weight, reduction)


def class_weights(
    x: Tensor, target: Tensor, weight: Tensor | None, ignore: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return safe targets with a class dimension, their weights, and the total weight."""
    kept = target != ignore
    safe = torch.where(kept, target, 0).unsqueeze(1 if x.dim() > 1 else 0)
    weights = kept.to(x.dtype) if weight is None else weight[safe.squeeze(1 if x.dim() > 1 else 0)] * kept
    return safe, weights, weights.sum()


def nll(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int
) -> tuple[Tensor, Tensor]:
    dim = 1 if x.dim() > 1 else 0
    safe, weights, total = class_weights(x, target, weight, ignore)
    picked = torch.gather(x, dim, safe).squeeze(dim)
    loss = torch.where(weights == 0, 0.0, -picked * weights)
    if reduction == 0:
        return loss, total.new_zeros(())
    return (loss.sum() / total if reduction == 1 else loss.sum()), total


def nll_backward(
    gradient: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore: int,
    total: Tensor,
) -> Tensor:
    dim = 1 if x.dim() > 1 else 0
    safe, weights, total = class_weights(x, target, weight, ignore)
    gradient = gradient / total if reduction == 1 else gradient
    slope = (-weights * gradient).unsqueeze(dim)
    return torch.zeros(x.shape, dtype=x.dtype).scatter(dim, safe, slope)


def soft_margin(x: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    return reduced(torch.log1p(torch.exp(-target * x)), reduction)


def soft_margin_backward(gradient: Tensor, x: Tensor, target: Tensor, reduction: int) -> Tensor:
    z = torch.exp(-target * x)
    return spread(gradient, x, reduction) * (-target * z / (1 + z))
