"""Compute parameters of distributions by fully connected networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import ember.distributions as dist
from ember.errors import message

_LARGE = 1e6  # bounds that keep an untrained network's output finite


class FullyConnected(nn.Sequential):
    """Linear layers with ELUs between them.

    :param sizes: widths of the input, the hidden layers and the output.
    :param final_activation: a module applied to the output.
    """

    def __init__(self, sizes: Sequence[int], final_activation: nn.Module | None = None) -> None:
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(sizes):
            layers += [nn.Linear(narrow, wide), nn.ELU()]
        layers = layers[:-1]
        if final_activation is not None:
            layers.append(final_activation)
        super().__init__(*layers)


class DistributionNet(nn.Module):
    """Base of networks whose outputs are parameters of a family of scalar distributions.

    :param sizes: widths of the input and the hidden layers.
    """

    num_parameters = 1

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.fc = FullyConnected([*sizes, self.num_parameters])

    @staticmethod
    def get_class(dtype: str) -> type[DistributionNet]:
        """Return the class of a family: ``"bernoulli"``, ``"exponential"``, ``"laplace"`` and so on.

        :raises ValueError: for another name.
        """
        families = {cls.__name__.lower().removesuffix("net"): cls for cls in DistributionNet.__subclasses__()}
        if dtype not in families:
            raise ValueError(
                message(f"dtype not supported: {dtype}", expected=sorted(families), actual=dtype)
            )
        return families[dtype]

    def _outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.fc(x).unbind(-1)

    @staticmethod
    def make_dist(*parameters: Tensor) -> Any:
        """Return the distribution of the given parameters."""
        raise NotImplementedError


class BernoulliNet(DistributionNet):
    """Give logits of a Bernoulli."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the logits."""
        return (self._outputs(x)[0].clamp(-10.0, 10.0),)

    @staticmethod
    def make_dist(logits: Tensor) -> Any:  # type: ignore[override]
        """Return the Bernoulli."""
        return dist.Bernoulli(logits=logits)


class ExponentialNet(DistributionNet):
    """Give the rate of an Exponential."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the rate."""
        return (_positive(self._outputs(x)[0]),)

    @staticmethod
    def make_dist(rate: Tensor) -> Any:  # type: ignore[override]
        """Return the Exponential."""
        return dist.Exponential(rate)


class LaplaceNet(DistributionNet):
    """Give location and scale of a Laplace."""

    num_parameters = 2

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return location and scale."""
        loc, scale = self._outputs(x)
        return loc.clamp(-_LARGE, _LARGE), _positive(scale)

    @staticmethod
    def make_dist(loc: Tensor, scale: Tensor) -> Any:  # type: ignore[override]
        """Return the Laplace."""
        return dist.Laplace(loc, scale)


class NormalNet(DistributionNet):
    """Give location and scale of a Normal."""

    num_parameters = 2

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return location and scale."""
        loc, scale = self._outputs(x)
        return loc.clamp(-_LARGE, _LARGE), _positive(scale)

    @staticmethod
    def make_dist(loc: Tensor, scale: Tensor) -> Any:  # type: ignore[override]
        """Return the Normal."""
        return dist.Normal(loc, scale)


class StudentTNet(DistributionNet):
    """Give degrees of freedom, location and scale of a StudentT with a mean."""

    num_parameters = 3

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return degrees of freedom, location and scale."""
        df, loc, scale = self._outputs(x)
        return 1.0 + _positive(df), loc.clamp(-_LARGE, _LARGE), _positive(scale)

    @staticmethod
    def make_dist(df: Tensor, loc: Tensor, scale: Tensor) -> Any:  # type: ignore[override]
        """Return the StudentT."""
        return dist.StudentT(df, loc, scale)


class DiagNormalNet(nn.Module):
    """Give locations and scales of independent Normals.

    :param sizes: widths of the input and the hidden layers, and the number of Normals.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.dim = sizes[-1]
        self.fc = FullyConnected([*sizes[:-1], 2 * self.dim])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return locations and scales."""
        loc, scale = self.fc(x).split(self.dim, -1)
        return loc.clamp(-100.0, 100.0), (softplus(scale) + 1e-3).clamp(max=100.0)


class PreWhitener(nn.Module):
    """Move and scale data so that those it was made of have mean 0 and standard deviation 1.

    :param data: ``(N, features)``.
    """

    loc: Tensor
    inv_scale: Tensor

    def __init__(self, data: Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            scale = data.std(0)
            # A feature that is constant is moved only.
            scale = torch.where(scale > 0, scale, 1.0)
            self.register_buffer("loc", data.mean(0))
            self.register_buffer("inv_scale", scale.reciprocal())

    def forward(self, data: Tensor) -> Tensor:
        """Return the moved and scaled data."""
        return (data - self.loc) * self.inv_scale


def _positive(value: Tensor) -> Tensor:
    return softplus(value).clamp(min=1e-3, max=_LARGE)
