"""Be a fully connected network with one or several heads, alone or given a context."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ember.errors import message


class ConditionalDenseNN(nn.Module):
    """Fully connected network of an input and a context, with outputs split into heads.

    :param input_dim: size of the input's last dim.
    :param context_dim: size of the context's last dim.
    :param hidden_dims: sizes of the hidden layers, may be empty.
    :param param_dims: sizes of the heads.
    :param nonlinearity: module between layers; ReLU by default.
    :raises ValueError: for sizes that are not positive, or no heads.
    """

    def __init__(
        self,
        input_dim: int,
        context_dim: int,
        hidden_dims: Sequence[int],
        param_dims: Sequence[int] = (1, 1),
        nonlinearity: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_sizes(type(self).__name__, (input_dim, *hidden_dims, *param_dims))
        if context_dim < 0 or not param_dims:
            raise ValueError(f"{type(self).__name__} needs a head, and a context_dim of at least 0")
        self.input_dim = input_dim
        self.context_dim = context_dim
        self.hidden_dims = list(hidden_dims)
        self.param_dims = list(param_dims)
        self.count_params = len(self.param_dims)
        self.output_multiplier = sum(self.param_dims)
        sizes = [input_dim + context_dim, *hidden_dims, self.output_multiplier]
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in itertools.pairwise(sizes)
        )
        self.f = nn.ReLU() if nonlinearity is None else nonlinearity

    def forward(self, x: Tensor, context: Tensor) -> Any:
        """Return the head's output of shape ``batch + (head,)``, or a tuple of them if there are several.

        :param x: ``batch + (input_dim,)``.
        :param context: of a shape that broadcasts to ``batch + (context_dim,)``.
        """
        context = context.expand((*x.shape[:-1], context.shape[-1]))
        return self._run(torch.cat([context, x], dim=-1))

    def _run(self, x: Tensor) -> Any:
        for layer in self.layers[:-1]:
            x = self.f(layer(x))
        x = self.layers[-1](x)
        return x if self.count_params == 1 else x.split(self.param_dims, dim=-1)


class DenseNN(ConditionalDenseNN):
    """Fully connected network with outputs split into heads.

    :param input_dim: size of the input's last dim.
    :param hidden_dims: sizes of the hidden layers, may be empty.
    :param param_dims: sizes of the heads.
    :param nonlinearity: module between layers; ReLU by default.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        param_dims: Sequence[int] = (1, 1),
        nonlinearity: nn.Module | None = None,
    ) -> None:
        super().__init__(input_dim, 0, hidden_dims, param_dims, nonlinearity)

    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        """Return the head's output of shape ``batch + (head,)``, or a tuple of them if there are several."""
        return self._run(x)


def check_sizes(network: str, sizes: Sequence[int]) -> None:
    """Raise ValueError unless all sizes are positive ints.

    :param network: name of the network, for the text.
    """
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(
            message(f"the sizes of a {network} must be positive ints", expected="sizes > 0", actual=sizes)
        )
