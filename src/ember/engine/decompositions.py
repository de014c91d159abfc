"""Say composite operations in terms of simpler ones, one line each where possible.

Capture applies these while it records, so that a program never holds the operations on the left. Formulas
follow the eager kernels' definitions, edge values included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
_SIXTH = 0.1666666716337204  # as in the eager kernel, rounded to float32
_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_INV_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


def _scaled(x: Tensor, factor: Any) -> Tensor:
    return x if factor == 1 else x * factor


def _added(base: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    # With beta 0 the base is ignored, NaN or not.
    product = _scaled(product, alpha)
    return product if beta == 0 else _scaled(base, beta) + product


def _reduced(x: Tensor, reduction: int) -> Tensor:
    return x if reduction == 0 else x.mean() if reduction == 1 else x.sum()


def _spread(gradient: Tensor, x: Tensor, reduction: int) -> Tensor:
    return gradient / x.numel() if reduction == 1 else gradient


def _softplus(x: Tensor, beta: Any = 1, threshold: Any = 20) -> Tensor:
    scaled = _scaled(x, beta)
    return torch.where(scaled > threshold, x, torch.log1p(torch.exp(scaled)) / beta)


def _softplus_backward(gradient: Tensor, x: Tensor, beta: Any, threshold: Any) -> Tensor:
    scaled = _scaled(x, beta)
    return torch.where(scaled > threshold, gradient, gradient * torch.sigmoid(scaled))


def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    z = torch.exp(-x.abs())
    return torch.clamp(x, max=0) - torch.log1p(z), z.new_zeros(0)


def _log_sigmoid_backward(gradient: Tensor, x: Tensor, _: Tensor) -> Tensor:
    z = torch.exp(-x.abs())
    fraction = z / (1 + z)
    return gradient * torch.where(x < 0, 1 - fraction, fraction)


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "none":
        return 0.5 * x * (1 + torch.erf(x * _SQRT_HALF))
    return 0.5 * x * (1 + torch.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))


def _gelu_backward(gradient: Tensor, x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "none":
        cdf = 0.5 * (1 + torch.erf(x * _SQRT_HALF))
        return gradient * (cdf + x * torch.exp(-0.5 * x * x) * _INV_SQRT_2PI)
    t = torch.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))
    inner = _SQRT_2_OVER_PI * (1 + 3 * 0.044715 * x * x)
    return gradient * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner)


def _silu_backward(gradient: Tensor, x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return gradient * s * (1 + x * (1 - s))


def _elu(x: Tensor, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> Tensor:
    return torch.where(x > 0, _scaled(x, scale), torch.expm1(_scaled(x, input_scale)) * (alpha * scale))


def _elu_backward(
    gradient: Tensor, alpha: Any, scale: Any, input_scale: Any, is_result: bool, x: Tensor
) -> Tensor:
    if is_result:
        return torch.where(x <= 0, gradient * input_scale * (x + alpha * scale), gradient * scale)
    negative = gradient * input_scale * alpha * scale * torch.exp(x * input_scale)
    return torch.where(x <= 0, negative, gradient * scale)


def _hardtanh_backward(gradient: Tensor, x: Tensor, low: Any, high: Any) -> Tensor:
    return torch.where((x <= low) | (x >= high), 0.0, gradient)


def _huber(x: Tensor, target: Tensor, reduction: int = 1, delta: float = 1.0) -> Tensor:
    z = (x - target).abs()
    return _reduced(torch.where(z <= delta, 0.5 * z * z, delta * (z - 0.5 * delta)), reduction)


def _huber_backward(gradient: Tensor, x: Tensor, target: Tensor, reduction: int, delta: float) -> Tensor:
    return _spread(gradient, x, reduction) * torch.clamp(x - target, -delta, delta)


def _smooth_l1(x: Tensor, target: Tensor, reduction: int = 1, beta: float = 1.0) -> Tensor:
    z = (x - target).abs()
    return _reduced(z if beta == 0 else torch.where(z < beta, 0.5 * z * z / beta, z - 0.5 * beta), reduction)


def _smooth_l1_backward(gradient: Tensor, x: Tensor, target: Tensor, reduction: int, beta: float) -> Tensor:
    z = x - target
    slope = torch.sign(z) if beta == 0 else torch.clamp(z / beta, -1, 1)
    return _spread(gradient, x, reduction) * slope


def _cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1) -> Tensor:
    # The eager kernel limits each logarithm to -100.
    low = torch.clamp(torch.log(x), min=-100)
    high = torch.clamp(torch.log1p(-x), min=-100)
    loss = (target - 1) * high - target * low
    return _reduced(loss if weight is None else loss * weight, reduction)


def _cross_entropy_backward(
    gradient: Tensor, x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1
) -> Tensor:
    slope = gradient * (x - target) / torch.clamp((1 - x) * x, min=1e-12)
    return _spread(slope if weight is None else slope * weight, x, reduction)


def _cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = 1,
) -> Tensor:
    log_sigmoid = _log_sigmoid(x)[0]
    if pos_weight is None:
        loss = (1 - target) * x - log_sigmoid
    else:
        loss = (1 - target) * x - ((pos_weight - 1) * target + 1) * log_sigmoid
    return _reduced(loss if weight is None else loss * weight, reduction)


def _logaddexp(x: Tensor, y: Tensor) -> Tensor:
    # Equal infinities must not be subtracted.
    larger = torch.maximum(x, y)
    equal = torch.isinf(x) & (x == y)
    return torch.where(equal, x, larger + torch.log1p(torch.exp(-(x - y).abs())))


def _logaddexp2(x: Tensor, y: Tensor) -> Tensor:
    larger = torch.maximum(x, y)
    equal = torch.isinf(x) & (x == y)
    return torch.where(equal, x, larger + torch.log1p(torch.exp2(-(x - y).abs())) * (1 / math.log(2.0)))


def _lerp(x: Tensor, end: Tensor, weight: Any) -> Tensor:
    # Exact at both ends, as the eager kernel is.
    if not isinstance(weight, Tensor):
        return x + weight * (end - x) if abs(weight) < 0.5 else end - (end - x) * (1 - weight)
    return torch.where(weight.abs() < 0.5, x + weight * (end - x), end - (end - x) * (1 - weight))


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    large, small = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    ratio = small / large
    safe = torch.where((large == 0) | (small == large), 1.0 * (large != 0), ratio)
    result = large * torch.sqrt(1 + safe * safe)
    infinite = torch.isinf(x) | torch.isinf(y)
    return torch.where(infinite, math.inf, result)


def _euclidean_distance(x: Tensor, y: Tensor) -> Tensor:
    x_norm, y_norm = (x * x).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True)
    squares = x_norm + y_norm.mT - 2 * (x @ y.mT)
    return torch.sqrt(torch.clamp(squares, min=0))


def _distances(x: Tensor, y: Tensor, p: float, compute_mode: int | None = None) -> Tensor:
    return aten.linalg_vector_norm.default(x.unsqueeze(-2) - y.unsqueeze(-3), p, [-1])


def _distances_backward(gradient: Tensor, x: Tensor, y: Tensor, p: float, distance: Tensor) -> Tensor:
    difference = x.unsqueeze(-2) - y.unsqueeze(-3)
    slope = _norm_slope(difference, p, distance.unsqueeze(-1))
    summed = (gradient.unsqueeze(-1) * slope).sum(-2)
    return summed.sum_to_size(x.shape) if summed.shape != x.shape else summed


def _norm_slope(x: Tensor, p: float, norm: Tensor) -> Tensor:
    if p == 0:
        return torch.zeros_like(x)
    if p == 1:
        return torch.sign(x)
    if p == math.inf:
        return torch.sign(x) * (norm == x.abs())
    safe = torch.where(norm == 0, 1.0, norm)
    magnitude = x if p == 2 else torch.sign(x) * x.abs() ** (p - 1)
    return torch.where(norm == 0, 0.0, magnitude / (safe if p == 2 else safe ** (p - 1)))


def _pairwise(x: Tensor, p: float = 2.0) -> Tensor:
    rows, columns = torch.triu_indices(x.shape[0], x.shape[0], 1)
    return aten.linalg_vector_norm.default(x[rows] - x[columns], p, [-1])


def _vector_norm(
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


def _norm(
    x: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    return _vector_norm(x, 2 if p is None else p, dim, keepdim, dtype=dtype)


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dims = list(range(x.dim() - len(shape), x.dim()))
    mean = x.mean(dims, keepdim=True)
    scale = torch.rsqrt(((x - mean) ** 2).mean(dims, keepdim=True) + eps)
    out = (x - mean) * scale
    out = out if weight is None else out * weight
    return out if bias is None else out + bias, mean, scale


def _layer_norm_backward(
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


def _class_weights(
    x: Tensor, target: Tensor, weight: Tensor | None, ignore: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return safe targets with a class dimension, their weights, and the total weight."""
    kept = target != ignore
    safe = torch.where(kept, target, 0).unsqueeze(1 if x.dim() > 1 else 0)
    weights = kept.to(x.dtype) if weight is None else weight[safe.squeeze(1 if x.dim() > 1 else 0)] * kept
    return safe, weights, weights.sum()


def _nll(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore: int
) -> tuple[Tensor, Tensor]:
    dim = 1 if x.dim() > 1 else 0
    safe, weights, total = _class_weights(x, target, weight, ignore)
    picked = torch.gather(x, dim, safe).squeeze(dim)
    loss = torch.where(weights == 0, 0.0, -picked * weights)
    if reduction == 0:
        return loss, total.new_zeros(())
    return (loss.sum() / total if reduction == 1 else loss.sum()), total


def _nll_backward(
    gradient: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore: int,
    total: Tensor,
) -> Tensor:
    dim = 1 if x.dim() > 1 else 0
    safe, weights, total = _class_weights(x, target, weight, ignore)
    gradient = gradient / total if reduction == 1 else gradient
    slope = (-weights * gradient).unsqueeze(dim)
    return torch.zeros(x.shape, dtype=x.dtype).scatter(dim, safe, slope)


def _heaviside(x: Tensor, values: Tensor) -> Tensor:
    return torch.where(x == 0, values, (x > 0).to(values.dtype))


def _nan_to_num(x: Tensor, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Tensor:
    if not x.is_floating_point():
        return x.clone()
    limits = torch.finfo(x.dtype)
    x = torch.where(torch.isnan(x), 0.0 if nan is None else nan, x)
    x = torch.where(x == math.inf, limits.max if posinf is None else posinf, x)
    return torch.where(x == -math.inf, limits.min if neginf is None else neginf, x)


def _mish_backward(gradient: Tensor, x: Tensor) -> Tensor:
    t = torch.tanh(_softplus(x))
    return gradient * (t + x * torch.sigmoid(x) * (1 - t * t))


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    first, second = x.chunk(2, dim)
    return first * torch.sigmoid(second)


def _trace_backward(gradient: Tensor, sizes: Any) -> Tensor:
    return torch.eye(sizes[0], sizes[1], dtype=gradient.dtype) * gradient


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    # products with an addend
    aten.addmm.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, x @ y, beta, alpha),
    aten.addmv.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, x @ y, beta, alpha),
    aten.addr.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, x.unsqueeze(1) * y, beta, alpha),
    aten.baddbmm.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, torch.bmm(x, y), beta, alpha),
    aten.addbmm.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, torch.bmm(x, y).sum(0), beta, alpha),
    aten.addcmul.default: lambda x, a, b, *, value=1: x + _scaled(a * b, value),
    aten.addcdiv.default: lambda x, a, b, *, value=1: x + _scaled(a / b, value),
    # activations
    aten.softplus.default: _softplus,
    aten.softplus_backward.default: _softplus_backward,
    aten.log_sigmoid_forward.default: _log_sigmoid,
    aten.log_sigmoid_backward.default: _log_sigmoid_backward,
    aten.sigmoid_backward.default: lambda g, y: g * (y * (1 - y)),
    aten.tanh_backward.default: lambda g, y: g * (1 - y * y),
    aten.silu.default: lambda x: x * torch.sigmoid(x),
    aten.silu_backward.default: _silu_backward,
    aten.gelu.default: _gelu,
    aten.gelu_backward.default: _gelu_backward,
    aten.elu.default: _elu,
    aten.elu_backward.default: _elu_backward,
    aten.mish.default: lambda x: x * torch.tanh(_softplus(x)),
    aten.mish_backward.default: _mish_backward,
    aten.relu.default: lambda x: torch.clamp(x, min=0),
    aten.threshold.default: lambda x, limit, value: torch.where(x <= limit, value, x),
    aten.threshold_backward.default: lambda g, x, limit: torch.where(x <= limit, 0, g),
    aten.leaky_relu.default: lambda x, slope=0.01: torch.where(x > 0, x, x * slope),
    aten.leaky_relu_backward.default: lambda g, x, slope, _: torch.where(x > 0, g, g * slope),
    aten._prelu_kernel.default: lambda x, weight: torch.where(x > 0, x, weight * x),
    aten.hardtanh.default: lambda x, low=-1, high=1: torch.clamp(x, low, high),
    aten.hardtanh_backward.default: _hardtanh_backward,
    aten.hardsigmoid.default: lambda x: torch.clamp(x + 3, 0, 6) / 6,
    aten.hardsigmoid_backward.default: lambda g, x: torch.where((x > -3) & (x < 3), g * _SIXTH, 0.0),
    aten.hardswish.default: lambda x: x * torch.clamp(x + 3, 0, 6) / 6,
    aten.glu.default: _glu,
    # losses
    aten.mse_loss.default: lambda x, y, reduction=1: _reduced((x - y) ** 2, reduction),
    aten.mse_loss_backward.default: lambda g, x, y, reduction: _spread(g, x, reduction) * (2 * (x - y)),
    aten.huber_loss.default: _huber,
    aten.huber_loss_backward.default: _huber_backward,
    aten.smooth_l1_loss.default: _smooth_l1,
    aten.smooth_l1_loss_backward.default: _smooth_l1_backward,
    aten.binary_cross_entropy.default: _cross_entropy,
    aten.binary_cross_entropy_backward.default: _cross_entropy_backward,
    aten.binary_cross_entropy_with_logits.default: _cross_entropy_with_logits,
    aten.nll_loss_forward.default: _nll,
    aten.nll_loss_backward.default: _nll_backward,
    aten.nll_loss2d_forward.default: _nll,
    aten.nll_loss2d_backward.default: _nll_backward,
    # pointwise
    aten.lerp.Scalar: _lerp,
    aten.lerp.Tensor: _lerp,
    aten.hypot.default: _hypot,
    aten.logaddexp.default: _logaddexp,
    aten.logaddexp2.default: _logaddexp2,
    aten.heaviside.default: _heaviside,
    aten.nan_to_num.default: _nan_to_num,
    aten.fill.Tensor: lambda x, value: value.to(x.dtype).expand(x.shape).clone(),
    aten.copy.default: lambda x, source, _=False: source.to(x.dtype).expand(x.shape).clone(),
    # norms, distances, normalisation
    aten.linalg_vector_norm.default: _vector_norm,
    aten.norm.Scalar: _norm,
    aten.norm.ScalarOpt_dim: _norm,
    aten.norm.ScalarOpt_dim_dtype: lambda x, p, dim, keepdim=False, *, dtype: _norm(x, p, dim, keepdim, dtype),
    aten._euclidean_dist.default: _euclidean_distance,
    aten._cdist_forward.default: _distances,
    aten._cdist_backward.default: _distances_backward,
    aten._pdist_forward.default: _pairwise,
    aten.dist.default: lambda x, y, p=2: _vector_norm(x - y, p),
    aten.native_layer_norm.default: _layer_norm,
    aten.native_layer_norm_backward.default: _layer_norm_backward,
    aten.trace.default: lambda x: x.diagonal().sum(),
    aten.trace_backward.default: _trace_backward,
}  # fmt: skip
