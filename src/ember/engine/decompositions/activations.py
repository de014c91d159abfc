"""Compute activation functions and their gradients from simpler operations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


def times(x: Tensor, factor: Any) -> Tensor:
    return x if factor == 1 else x * factor


def softplus(x: Tensor, beta: Any = 1, threshold: Any = 20) -> Tensor:
    scaled = times(x, beta)
    return torch.where(scaled > threshold, x, torch.log1p(torch.exp(scaled)) / beta)


def softplus_backward(gradient: Tensor, x: Tensor, beta: Any, threshold: Any) -> Tensor:
    scaled = times(x, beta)
    return torch.where(scaled > threshold, gradient, gradient * torch.sigmoid(scaled))


def log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    z = torch.exp(-x.abs())
    return torch.clamp(x, max=0) - torch.log1p(z), z.new_zeros(0)


def log_sigmoid_backward(gradient: Tensor, x: Tensor, _: Tensor) -> Tensor:
    z = torch.exp(-x.abs())
    fraction = z / (1 + z)
    return gradient * torch.where(x < 0, 1 - fraction, fraction)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "none":
        return 0.5 * x * (1 + torch.erf(x * _SQRT_HALF))
    return 0.5 * x * (1 + torch.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))


def gelu_backward(gradient: Tensor, x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "none":
        cdf = 0.5 * (1 + torch.erf(x * _SQRT_HALF))
        return gradient * (cdf + x * torch.exp(-0.5 * x * x) * _INV_SQRT_2PI)
    t = torch.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))
    inner = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x)
    return gradient * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner)


def silu_backward(gradient: Tensor, x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return gradient * s * (1 + x * (1 - s))


def elu(x: Tensor, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Tensor:
    return torch.where(x > 0, times(x, scale), torch.expm1(times(x, input_scale)) * (alpha * scale))


def elu_backward(
    gradient: Tensor, alpha: Any, scale: Any, input_scale: Any, is_result: bool, x: Tensor
) -> Tensor:
    if is_result:
        return torch.where(x <= 0, gradient * input_scale * (x + alpha * scale), gradient * scale)
    negative = gradient * input_scale * alpha * scale * torch.exp(x * input_scale)
    return torch.where(x <= 0, negative, gradient * scale)


def hardtanh_backward(gradient: Tensor, x: Tensor, low: Any, high: Any) -> Tensor:
    return torch.where((x <= low) | (x >= high), 0.0, gradient)


def mish_backward(gradient: Tensor, x: Tensor) -> Tensor:
    t = torch.tanh(softplus(x))
    return gradient * (t + x * torch.sigmoid(x) * (1 - t * t))


def glu(x: Tensor, dim: int = -1) -> Tensor:
    first, second = x.chunk(2, dim)
    return first * torch.sigmoid(second)
