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

from ember.engine.decompositions.activations import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    glu,
    hardtanh_backward,
    log_sigmoid,
    log_sigmoid_backward,
    mish_backward,
    silu_backward,
    softplus,
    softplus_backward,
    times,
)
from ember.engine.decompositions.arrangements import block_diagonal, linspace, pixel_shuffle, pixel_unshuffle
from ember.engine.decompositions.losses import (
    cross_entropy,
    cross_entropy_backward,
    cross_entropy_with_logits,
    huber,
    huber_backward,
    nll,
    nll_backward,
    reduced,
    smooth_l1,
    smooth_l1_backward,
    soft_margin,
    soft_margin_backward,
    spread,
)
from ember.engine.decompositions.matrix_exponential import matrix_exp
from ember.engine.decompositions.norms import (
    distances,
    distances_backward,
    euclidean_distance,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    norm,
    pairwise,
    trace_backward,
    vector_norm,
)
from ember.engine.randomness.implicit import dirichlet_grad, gamma_grad

aten = torch.ops.aten
_SIXTH = 0.1666666716337204  # as in the eager kernel, rounded to float32


def _added(base: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    # With beta 0 the base is ignored, NaN or not.
    product = times(product, alpha)
    return product if beta == 0 else times(base, beta) + product


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


def _heaviside(x: Tensor, values: Tensor) -> Tensor:
    return torch.where(x == 0, values, (x > 0).to(values.dtype))


def _nan_to_num(x: Tensor, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Tensor:
    if not x.is_floating_point():
        return x.clone()
    limits = torch.finfo(x.dtype)
    x = torch.where(torch.isnan(x), 0.0 if nan is None else nan, x)
    x = torch.where(x == math.inf, limits.max if posinf is None else posinf, x)
    return torch.where(x == -math.inf, limits.min if neginf is None else neginf, x)


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    # products with an addend
    aten.addmm.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, x @ y, beta, alpha),
    aten.addmv.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, x @ y, beta, alpha),
    aten.addr.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, x.unsqueeze(1) * y, beta, alpha),
    aten.baddbmm.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, torch.bmm(x, y), beta, alpha),
    aten.addbmm.default: lambda b, x, y, *, beta=1, alpha=1: _added(b, torch.bmm(x, y).sum(0), beta, alpha),
    aten.addcmul.default: lambda x, a, b, *, value=1: x + times(a * b, value),
    aten.addcdiv.default: lambda x, a, b, *, value=1: x + times(a / b, value),
    # matrices
    aten.linalg_matrix_exp.default: matrix_exp,
    # activations
    aten.softplus.default: softplus,
    aten.softplus_backward.default: softplus_backward,
    aten.log_sigmoid_forward.default: log_sigmoid,
    aten.log_sigmoid_backward.default: log_sigmoid_backward,
    aten.sigmoid_backward.default: lambda g, y: g * (y * (1 - y)),
    aten.tanh_backward.default: lambda g, y: g * (1 - y * y),
    aten.silu.default: lambda x: x * torch.sigmoid(x),
    aten.silu_backward.default: silu_backward,
    aten.gelu.default: gelu,
    aten.gelu_backward.default: gelu_backward,
    aten.elu.default: elu,
    aten.elu_backward.default: elu_backward,
    aten.mish.default: lambda x: x * torch.tanh(softplus(x)),
    aten.mish_backward.default: mish_backward,
    aten.relu.default: lambda x: torch.clamp(x, min=0),
    aten.threshold.default: lambda x, limit, value: torch.where(x <= limit, value, x),
    aten.threshold_backward.default: lambda g, x, limit: torch.where(x <= limit, 0, g),
    aten.leaky_relu.default: lambda x, slope=0.01: torch.where(x > 0, x, x * slope),
    aten.leaky_relu_backward.default: lambda g, x, slope, _: torch.where(x > 0, g, g * slope),
    aten._prelu_kernel.default: lambda x, weight: torch.where(x > 0, x, weight * x),
    aten.hardtanh.default: lambda x, low=-1, high=1: torch.clamp(x, low, high),
    aten.hardtanh_backward.default: hardtanh_backward,
    aten.hardsigmoid.default: lambda x: torch.clamp(x + 3, 0, 6) / 6,
    aten.hardsigmoid_backward.default: lambda g, x: torch.where((x > -3) & (x < 3), g * _SIXTH, 0.0),
    aten.hardswish.default: lambda x: x * torch.clamp(x + 3, 0, 6) / 6,
    aten.glu.default: glu,
    aten.celu.default: lambda x, alpha=1.0: torch.where(x > 0, x, alpha * torch.expm1(x / alpha)),
    aten.native_dropout_backward.default: lambda g, mask, scale: g * mask * scale,
    # losses
    aten.mse_loss.default: lambda x, y, reduction=1: reduced((x - y) ** 2, reduction),
    aten.mse_loss_backward.default: lambda g, x, y, reduction: spread(g, x, reduction) * (2 * (x - y)),
    aten.huber_loss.default: huber,
    aten.huber_loss_backward.default: huber_backward,
    aten.smooth_l1_loss.default: smooth_l1,
    aten.smooth_l1_loss_backward.default: smooth_l1_backward,
    aten.binary_cross_entropy.default: cross_entropy,
    aten.binary_cross_entropy_backward.default: cross_entropy_backward,
    aten.binary_cross_entropy_with_logits.default: cross_entropy_with_logits,
    aten.soft_margin_loss.default: soft_margin,
    aten.soft_margin_loss_backward.default: soft_margin_backward,
    aten.nll_loss_forward.default: nll,
    aten.nll_loss_backward.default: nll_backward,
    aten.nll_loss2d_forward.default: nll,
    aten.nll_loss2d_backward.default: nll_backward,
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
    # derivatives of draws
    aten._standard_gamma_grad.default: gamma_grad,
    aten._dirichlet_grad.default: dirichlet_grad,
    # norms, distances, normalisation
    aten.linalg_vector_norm.default: vector_norm,
    aten.norm.Scalar: norm,
    aten.norm.ScalarOpt_dim: norm,
    aten.norm.ScalarOpt_dim_dtype: lambda x, p, dim, keepdim=False, *, dtype: norm(x, p, dim, keepdim, dtype),
    aten._euclidean_dist.default: euclidean_distance,
    aten._cdist_forward.default: distances,
    aten._cdist_backward.default: distances_backward,
    aten._pdist_forward.default: pairwise,
    aten.dist.default: lambda x, y, p=2: vector_norm(x - y, p),
    aten.native_layer_norm.default: layer_norm,
    aten.native_layer_norm_backward.default: layer_norm_backward,
    aten.native_group_norm.default: group_norm,
    aten.native_group_norm_backward.default: group_norm_backward,
    # rearrangements
    aten.block_diag.default: block_diagonal,
    aten.pixel_shuffle.default: pixel_shuffle,
    aten.pixel_unshuffle.default: pixel_unshuffle,
    aten.linspace.Tensor_Tensor: linspace,
    aten.linspace.Tensor_Scalar: linspace,
    aten.linspace.Scalar_Tensor: linspace,
    aten.trace.default: lambda x: x.diagonal().sum(),
    aten.trace_backward.default: trace_backward,
}  # fmt: skip
