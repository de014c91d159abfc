"""Be a network whose outputs depend only on inputs that come before them in some order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ember.errors import message

from .dense_nn import check_sizes


class MaskedLinear(nn.Linear):
    """A linear layer whose weight is multiplied by a fixed mask.

    :param in_features: size of the input's last dim.
    :param out_features: size of the output's last dim.
    :param mask: ``(out_features, in_features)``.
    :param bias: whether to add a bias.
    :raises ValueError: for a mask of another shape.
    """

    mask: Tensor

    def __init__(self, in_features: int, out_features: int, mask: Tensor, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        if mask.shape != (out_features, in_features):
            raise ValueError(
                message(
                    "the mask of a MaskedLinear has the wrong shape",
                    expected=(out_features, in_features),
                    actual=tuple(mask.shape),
                )
            )
        self.register_buffer("mask", mask.to(self.weight.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x (W ∘ mask)ᵀ + b``."""
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


def sample_mask_indices(input_dim: int, hidden_dim: int, simple: bool = True) -> Tensor:
    """Give each hidden unit the number of inputs that it may see, from 1 to ``input_dim``, ascending.

    :param simple: spread them evenly rather than drawing them at random.
    """
    if simple:
        return torch.linspace(1, input_dim, steps=hidden_dim).round()
    return torch.randint(1, input_dim + 1, (hidden_dim,)).sort().values.to(torch.get_default_dtype())


def create_mask(
    input_dim: int,
    context_dim: int,
    hidden_dims: Sequence[int],
    permutation: Tensor,
    output_dim_multiplier: int,
) -> tuple[list[Tensor], Tensor]:
    """Make the masks of MADE (Germain, Gregor, Murray & Larochelle 2015, arXiv 1502.03509).

    :param input_dim: number of inputs D.
    :param context_dim: number of context inputs, which come first and which every unit may see.
    :param hidden_dims: sizes of the hidden layers.
    :param permutation: ``(D,)``; input ``permutation[i]`` is the i-th in the order.
    :param output_dim_multiplier: number of outputs for each input.
    :returns: the masks of the layers, and that of a direct connection from input to output.
    """
    place = torch.empty(input_dim)
    place[permutation] = torch.arange(1.0, input_dim + 1)
    inputs = torch.cat([torch.zeros(context_dim), place])
    # An output may see what comes strictly before its input.
    outputs = place.repeat(output_dim_multiplier)
    degrees = [inputs]
    for size in hidden_dims:
        # Units that see all inputs could reach no output: D − 1 is the most that helps. Some see the context
        # alone, for the sake of the first output.
        fewest = 0 if context_dim else 1
        degrees.append(sample_mask_indices(max(input_dim - fewest, 1), size) - 1 + fewest)
    masks = [
        (after.unsqueeze(-1) >= before).to(torch.get_default_dtype())
        for before, after in itertools.pairwise(degrees)
    ]
    masks.append((outputs.unsqueeze(-1) > degrees[-1]).to(torch.get_default_dtype()))
    return masks, (outputs.unsqueeze(-1) > inputs).to(torch.get_default_dtype())


class ConditionalAutoRegressiveNN(nn.Module):
    """Masked network: output i depends on the context and on inputs before i in the order only.

    :param input_dim: number of inputs D.
    :param context_dim: size of the context's last dim.
    :param hidden_dims: sizes of the hidden layers, each at least D.
    :param param_dims: number of outputs for each input, by head.
    :param permutation: order of the inputs, ``(D,)``; drawn at random by default.
    :param skip_connections: add a direct masked connection from input to output.
    :param nonlinearity: module between layers; ReLU by default.
    :raises ValueError: for sizes that are not positive, or a permutation that is none.
    """

    permutation: Tensor

    def __init__(
        self,
        input_dim: int,
        context_dim: int,
        hidden_dims: Sequence[int],
        param_dims: Sequence[int] = (1, 1),
        permutation: Tensor | None = None,
        skip_connections: bool = False,
        nonlinearity: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, (input_dim, *hidden_dims, *param_dims))
        if permutation is None:
            permutation = torch.randperm(input_dim)
        elif sorted(permutation.tolist()) != list(range(input_dim)):
            raise ValueError(
                message(
                    "permutation does not list each input once",
                    expected=f"a permutation of 0 … {input_dim - 1}",
                    actual=permutation.tolist(),
                )
            )
        self.input_dim = input_dim
        self.context_dim = context_dim
        self.hidden_dims = list(hidden_dims)
        self.param_dims = list(param_dims)
        self.count_params = len(self.param_dims)
        self.output_multiplier = sum(self.param_dims)
        self.register_buffer("permutation", permutation.long())
        masks, direct = create_mask(
            input_dim, context_dim, self.hidden_dims, permutation.long(), self.output_multiplier
        )
        self.layers = nn.ModuleList(MaskedLinear(mask.shape[1], mask.shape[0], mask) for mask in masks)
        self.skip_layer = (
            MaskedLinear(direct.shape[1], direct.shape[0], direct, bias=False) if skip_connections else None
        )
        self.f = nn.ReLU() if nonlinearity is None else nonlinearity

    def get_permutation(self) -> Tensor:
        """Return the order of the inputs, ``(D,)``."""
        return self.permutation

    def forward(self, x: Tensor, context: Tensor | None = None) -> Any:
        """Return the head's output, ``batch + (D,)`` if it has one output for each input, else
        ``batch + (outputs, D)``; a tuple of them if there are several heads.

        :param x: ``batch + (D,)``.
        :param context: of a shape that broadcasts to ``batch + (context_dim,)``.
        """
        if context is not None:
            context = context.expand((*x.shape[:-1], context.shape[-1]))
            x = torch.cat([context, x], dim=-1)
        return self._run(x)

    def _run(self, x: Tensor) -> Any:
        hidden = x
        for layer in self.layers[:-1]:
            hidden = self.f(layer(hidden))
        output = self.layers[-1](hidden)
        if self.skip_layer is not None:
            output = output + self.skip_layer(x)
        if self.output_multiplier == 1:
            return output
        output = output.reshape((*x.shape[:-1], self.output_multiplier, self.input_dim))
        if self.count_params == 1:
            return output
        heads = output.split(self.param_dims, dim=-2)
        return tuple(head.squeeze(-2) if head.shape[-2] == 1 else head for head in heads)


class AutoRegressiveNN(ConditionalAutoRegressiveNN):
    """Masked network: output i depends on inputs before i in the order only.

    Parameters are those of :class:`ConditionalAutoRegressiveNN`, without a context.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        param_dims: Sequence[int] = (1, 1),
        permutation: Tensor | None = None,
        skip_connections: bool = False,
        nonlinearity: nn.Module | None = None,
    ) -> None:
        super().__init__(input_dim, 0, hidden_dims, param_dims, permutation, skip_connections, nonlinearity)
