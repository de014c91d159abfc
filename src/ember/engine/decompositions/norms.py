"""Compute norms, distances and normalisations, and their gradients, from simpler operations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def euclidean_distance(x: Tensor, y: Tensor) -> Tensor:
    x_norm, y_norm = (x * x).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True)
    squares = x_norm + y_norm.mT - 2 * (x @ y.mT)
    return torch.sqrt(torch.clamp(squares, min=0))


def distances(x: Tensor, y: Tensor, p: float, compute_mode: int | None = None) -> Tensor:
    return aten.linalg_vector_norm.default(x.unsqueeze(-2) - y.unsqueeze(-3), p, [-1])


def distances_backward(gradient: Tensor, x: Tensor, y: Tensor, p: float, distance: Tensor) -> Tensor:
    difference = x.unsqueeze(-2) - y.unsqueeze(-3)
    slope = norm_slope(difference, p, distance.unsqueeze(-1))
    summed = (gradient.unsqueeze(-1) * slope).sum(-2)
    return summed.sum_to_size(x.shape) if summed.shape != x.shape else summed


def norm_slope(x: Tensor, p: float, norm: Tensor) -> Tensor:
    if p == 0:
        return torch.zeros_like(x)
    if p == 1:
        return torch.sign(x)
    if p == math.inf:
        return torch.sign(x) * (norm == x.abs())
    safe = torch.where(norm == 0, 1.0, norm)
    magnitude = x if p == 2 else torch.sign(x) * x.abs() ** (p - 1)
    return torch.where(norm == 0, 0.0, magnitude / (safe if p == 2 else safe ** (p - 1)))


def pairwise(x: Tensor, p: float = 2.0) -> Tensor:
    rows, columns = torch.triu_indices(x.shape[0], x.shape[0], 1)
    return aten.linalg_vector_norm.default(x[rows] - x[columns], p, [-1])


def vector_norm(
    x: Tensor, order: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    x = x if dtype is None else x.to(dtype)
    dims = list(range(x.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if not dims:
        dims = list(range(x.dim()))
    size = x.abs()
    if order == math.inf:
        return torch.amax(size, dims, keepdim)
    if order == -math.inf:
        return torch.amin(size, dims, keepdim)
    if order == 0:
        return (x != 0).to(x.dtype).sum(dims, keepdim)
    if order == 1:
        return size.sum(dims, keepdim)
    if order == 2:
        return torch.sqrt((x * x).sum(dims, keepdim))
    return (size**order).sum(dims, keepdim) ** (1.0 / order)


def norm(
    x: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    return vector_norm(x, 2 if p is None else p, dim, keepdim, dtype=dtype)


def layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dims = list(range(x.dim() - len(shape), x.dim()))
    mean = x.mean(dims, keepdim=True)
    scale = torch.rsqrt(((x - mean) ** 2).mean(dims, keepdim=True) + eps)
    out = (x - mean) * scale
    out = out if weight is None else out * weight
    return out if bias is None else out + bias, mean, scale


def layer_norm_backward(
    gradient: Tensor,
    x: Tensor,
    shape: list[int],
    mean: Tensor,
    scale: Tensor,
    weight: Any,
    bias: Any,
    mask: Any,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    dims, batch = list(range(x.dim() - len(shape), x.dim())), list(range(x.dim() - len(shape)))
    normal = (x - mean) * scale
    scaled = gradient if weight is None else gradient * weight
    inner = scaled - scaled.mean(dims, keepdim=True) - normal * (scaled * normal).mean(dims, keepdim=True)

    def over_batch(each: Tensor) -> Tensor:
        return each.sum(batch) if batch else each

    return (
        inner * scale if mask[0] else None,
        over_batch(gradient * normal) if mask[1] and weight is not None else None,
        over_batch(gradient) if mask[2] and bias is not None else None,
    )


def group_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    batch: int,
    channels: int,
    size: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    parts = x.reshape(batch, groups, -1)
    mean = parts.mean(-1)
    centred = parts - mean.unsqueeze(-1)
    scale = torch.rsqrt((centred**2).mean(-1) + eps)
    out = (centred * scale.unsqueeze(-1)).reshape(batch, channels, size)
    out = out if weight is None else out * weight.reshape(channels, 1)
    out = out if bias is None else out + bias.reshape(channels, 1)
    return out.reshape(x.shape), mean, scale


def group_norm_backward(
    gradient: Tensor,
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    weight: Tensor | None,
    batch: int,
    channels: int,
    size: int,
    groups: int,
    mask: Any,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    gradient = gradient.reshape(batch, channels, size)
    normal = (x.reshape(batch, groups, -1) - mean.unsqueeze(-1)) * scale.unsqueeze(-1)
    by_channel = (gradient * normal.reshape(batch, channels, size)).sum((0, 2))
    scaled = gradient if weight is None else gradient * weight.reshape(channels, 1)
    scaled = scaled.reshape(batch, groups, -1)
    inner = scaled - scaled.mean(-1, keepdim=True) - normal * (scaled * normal).mean(-1, keepdim=True)
    return (
        (inner * scale.unsqueeze(-1)).reshape(x.shape) if mask[0] else None,
        by_channel if mask[1] else None,
        gradient.sum((0, 2)) if mask[2] else None,
    )


def trace_backward(gradient: Tensor, sizes: Any) -> Tensor:
    return torch.eye(sizes[0], sizes[1], dtype=gradient.dtype) * gradient
