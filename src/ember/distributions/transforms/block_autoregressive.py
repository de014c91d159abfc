"""Define the block neural autoregressive flow: one masked monotone network of a vector."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, leaky_relu, logsigmoid, softplus

from .. import constraints
from .modules import TransformModule

_BOUND, _HALVINGS = 1e3, 60


class _BlockLinear(nn.Module):
    """A linear layer of D × D blocks, zero above the diagonal, positive on it (De Cao et al., eq. 8, 9)."""

    lower: Tensor

    def __init__(self, dim: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.dim, self.fan_in, self.fan_out = dim, fan_in, fan_out
        weight = torch.randn(dim, fan_out, dim, fan_in) / math.sqrt(dim * fan_in)
        self.weight = nn.Parameter(weight)
        self.log_scale = nn.Parameter(torch.rand(dim, fan_out).log())
        self.bias = nn.Parameter((torch.rand(dim, fan_out) - 0.5) / math.sqrt(dim * fan_in))
        self.register_buffer("lower", torch.ones(dim, dim).tril(-1).reshape(dim, 1, dim, 1))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the layer's output and the logarithms of the blocks on the diagonal, ``(D, out, in)``.

        :param h: ``batch + (D, in)``.
        """
        diagonal = self.weight.diagonal(dim1=0, dim2=2).movedim(-1, 0)  # D, out, in
        place = torch.eye(self.dim, dtype=h.dtype, device=h.device).reshape(self.dim, 1, self.dim, 1)
        free = self.weight * self.lower + self.weight.exp() * place
        norm = free.square().sum((-1, -2)).sqrt()
        scale = self.log_scale.exp() / norm
        weight = (free * scale[..., None, None]).flatten(-2)
        output = torch.einsum("doi,...i->...do", weight, h.flatten(-2)) + self.bias
        return output, diagonal + (self.log_scale - norm.log()).unsqueeze(-1)


class BlockAutoregressive(TransformModule):
    """Block neural autoregressive flow (De Cao, Titov & Aziz 2019, arXiv 1904.04676).

    The inverse is found by bisection, entry by entry; without a residual part and with a bounded activation
    only values in the range of the network have one.

    :param input_dim: dimension D.
    :param hidden_factors: for each hidden layer the number of units for an entry.
    :param activation: "tanh", "sigmoid", "ELU" or "LeakyReLU".
    :param residual: None, "normal" (add the input) or "gated" (mix with the input).
    :raises ValueError: for another activation or residual.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(
        self,
        input_dim: int,
        hidden_factors: Sequence[int] = (8, 8),
        activation: str = "tanh",
        residual: str | None = None,
    ) -> None:
        super().__init__()
        if activation not in ("tanh", "sigmoid", "ELU", "LeakyReLU"):
            raise ValueError(f"activation is 'tanh', 'sigmoid', 'ELU' or 'LeakyReLU', got {activation!r}")
        if residual not in (None, "normal", "gated"):
            raise ValueError(f"residual is None, 'normal' or 'gated', got {residual!r}")
        self.input_dim, self.activation, self.residual = input_dim, activation, residual
        sizes = [1, *hidden_factors, 1]
        self.layers = nn.ModuleList(
            _BlockLinear(input_dim, fan_in, fan_out) for fan_in, fan_out in itertools.pairwise(sizes)
        )
        if residual == "gated":
            self.gate = nn.Parameter(torch.zeros(1))

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image, and the logarithms of ∂y_i/∂x_i."""
        h = x.unsqueeze(-1)
        slopes = torch.zeros_like(h)  # logarithms, batch + (D, units)
        for index, layer in enumerate(self.layers):
            h, blocks = layer(h)
            slopes = (blocks + slopes.unsqueeze(-2)).logsumexp(-1)
            if index < len(self.layers) - 1:
                slopes = slopes + _log_slope(self.activation, h)
                h = _activate(self.activation, h)
        y, log_slope = h.squeeze(-1), slopes.squeeze(-1)
        if self.residual == "normal":
            return x + y, softplus(log_slope)
        if self.residual == "gated":
            share = torch.sigmoid(self.gate)
            log_slope = torch.logaddexp(log_slope + logsigmoid(self.gate), logsigmoid(-self.gate))
            return share * y + (1.0 - share) * x, log_slope
        return y, log_slope

    def _call(self, x: Tensor) -> Tensor:
        return self._run(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        from zuko.utils import bisection

        x = torch.zeros_like(y)
        for index in range(y.shape[-1]):
            before = x

            def image(entry: Tensor, index: int = index, before: Tensor = before) -> Tensor:
                return self._run(_replaced(before, index, entry))[0][..., index]

            target = y[..., index]
            low, high = torch.full_like(target, -_BOUND), torch.full_like(target, _BOUND)
            used = [each for each in (*self.parameters(), before) if each.requires_grad]
            x = _replaced(before, index, bisection(image, target, low, high, n=_HALVINGS, phi=used))
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of log ∂y_i/∂x_i, ``batch``."""
        return self._run(x)[1].sum(-1)


def _replaced(x: Tensor, index: int, entry: Tensor) -> Tensor:
    return torch.cat([x[..., :index], entry.unsqueeze(-1), x[..., index + 1 :]], -1)


def _activate(activation: str, h: Tensor) -> Tensor:
    if activation == "tanh":
        return torch.tanh(h)
    if activation == "sigmoid":
        return torch.sigmoid(h)
    return elu(h) if activation == "ELU" else leaky_relu(h)


def _log_slope(activation: str, h: Tensor) -> Tensor:
    if activation == "tanh":
        return 2.0 * (math.log(2.0) - h - softplus(-2.0 * h))
    if activation == "sigmoid":
        return logsigmoid(h) + logsigmoid(-h)
    return h.clamp(max=0.0) if activation == "ELU" else torch.where(h < 0, math.log(0.01), 0.0).to(h)
