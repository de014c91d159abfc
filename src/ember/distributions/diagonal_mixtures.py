"""Define mixtures of Gaussians with diagonal covariances whose draws have pathwise gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import message
from . import constraints
from .parameters import table
from .shapes import broadcast_shape
from .torch_distribution import TorchDistribution, expand_parameters

_EMPTY = torch.Size()


class _DiagonalMixture(TorchDistribution):
    """A mixture of K Gaussians on D coordinates that are independent within each component.

    Draws choose a component and carry the gradient of the mixture's conditional distribution functions,
    coordinate by coordinate (implicit reparameterisation: Figurnov, Mohamed & Mnih 2018, section 3.1).
    """

    support = constraints.real_vector
    has_rsample = True
    component_logits: Tensor

    def _components(self) -> tuple[Tensor, Tensor]:
        """Return means and scales, which broadcast to ``batch_shape + (K, D)``."""
        raise NotImplementedError

    def _log_weights(self) -> Tensor:
        return self.component_logits.log_softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        locs, scales = self._components()
        z = (value.unsqueeze(-2) - locs) / scales
        densities = -0.5 * z.square() - scales.log() - 0.5 * math.log(2.0 * math.pi)
        return (densities.sum(-1) + self._log_weights()).logsumexp(-1)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        locs, scales = self._components()
        shape = self._extended_shape(sample_shape)
        full = shape[:-1] + locs.shape[-2:]
        with torch.no_grad():
            weights = self.component_logits.expand(full[:-1])
            which = torch.distributions.Categorical(logits=weights, validate_args=False).sample()
            index = which[..., None, None].expand((*shape[:-1], 1, *shape[-1:]))
            loc, scale = (each.expand(full).gather(-2, index).squeeze(-2) for each in (locs, scales))
            value = loc + scale * torch.randn_like(loc)
        if not any(each.requires_grad for each in (locs, scales, self.component_logits)):
            return value
        return self._attached(value, locs, scales)

    def _attached(self, value: Tensor, locs: Tensor, scales: Tensor) -> Tensor:
        """Give a draw the gradient that keeps F(z_d | z_1, …, z_{d-1}) constant for every d."""
        log_weights, coordinates = self._log_weights(), []
        for d in range(value.shape[-1]):
            loc, scale, fixed = locs[..., d], scales[..., d], value[..., d, None]
            weights = log_weights.softmax(-1)
            z = (fixed - loc) / scale
            density = (weights * torch.exp(-0.5 * z.square()) / (math.sqrt(2.0 * math.pi) * scale)).sum(-1)
            # Either tail of the distribution function, whichever is the smaller: gradients are opposite.
            lower = (weights * torch.special.ndtr(z)).sum(-1)
            upper = (weights * torch.special.ndtr(-z)).sum(-1)
            level = torch.where(lower < upper, lower, -upper)
            slope = density.detach().clamp(min=torch.finfo(density.dtype).tiny)
            moved = value[..., d] - (level - level.detach()) / slope
            coordinates.append(moved)
            free = (moved.unsqueeze(-1) - loc) / scale
            log_weights = log_weights - 0.5 * free.square() - scale.log()
        return torch.stack(coordinates, -1)

    @property
    def mean(self) -> Tensor:
        locs, _ = self._components()
        weights = self._log_weights().exp().unsqueeze(-1)
        return (weights * locs).sum(-2).expand(self._batch_shape + self._event_shape)

    @property
    def variance(self) -> Tensor:
        locs, scales = self._components()
        weights = self._log_weights().exp().unsqueeze(-1)
        mean = (weights * locs).sum(-2)
        square = (weights * (locs.square() + scales.square())).sum(-2)
        return (square - mean.square()).expand(self._batch_shape + self._event_shape)


class MixtureOfDiagNormals(_DiagonalMixture):
    """A mixture of K Gaussians with means and scales of their own.

    :param locs: ``batch_shape + (K, D)``.
    :param coord_scale: positive, ``batch_shape + (K, D)``.
    :param component_logits: ``batch_shape + (K,)``.
    """

    arg_constraints = table(
        locs=constraints.independent(constraints.real, 2),
        coord_scale=constraints.independent(constraints.positive, 2),
        component_logits=constraints.real_vector,
    )
    parameter_dims = table(locs=2, coord_scale=2, component_logits=1)
    expand = expand_parameters

    def __init__(
        self,
        locs: Tensor,
        coord_scale: Tensor,
        component_logits: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        _check("MixtureOfDiagNormals", locs, coord_scale, component_logits, locs.shape[-2:])
        batch = broadcast_shape(locs.shape[:-2], coord_scale.shape[:-2], component_logits.shape[:-1])
        self.locs = locs.expand(batch + locs.shape[-2:])
        self.coord_scale = coord_scale.expand(batch + coord_scale.shape[-2:])
        self.component_logits = component_logits.expand(batch + component_logits.shape[-1:])
        TorchDistribution.__init__(self, batch, locs.shape[-1:], validate_args)

    def _components(self) -> tuple[Tensor, Tensor]:
        return self.locs, self.coord_scale


class MixtureOfDiagNormalsSharedCovariance(_DiagonalMixture):
    """A mixture of K Gaussians with one vector of scales.

    :param locs: ``batch_shape + (K, D)``.
    :param coord_scale: positive, ``batch_shape + (D,)``.
    :param component_logits: ``batch_shape + (K,)``.
    """

    arg_constraints = table(
        locs=constraints.independent(constraints.real, 2),
        coord_scale=constraints.independent(constraints.positive, 1),
        component_logits=constraints.real_vector,
    )
    parameter_dims = table(locs=2, coord_scale=1, component_logits=1)
    expand = expand_parameters

    def __init__(
        self,
        locs: Tensor,
        coord_scale: Tensor,
        component_logits: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        name = "MixtureOfDiagNormalsSharedCovariance"
        _check(name, locs, coord_scale, component_logits, locs.shape[-1:])
        batch = broadcast_shape(locs.shape[:-2], coord_scale.shape[:-1], component_logits.shape[:-1])
        self.locs = locs.expand(batch + locs.shape[-2:])
        self.coord_scale = coord_scale.expand(batch + coord_scale.shape[-1:])
        self.component_logits = component_logits.expand(batch + component_logits.shape[-1:])
        TorchDistribution.__init__(self, batch, locs.shape[-1:], validate_args)

    def _components(self) -> tuple[Tensor, Tensor]:
        return self.locs, self.coord_scale.unsqueeze(-2).expand(self.locs.shape)


class GaussianScaleMixture(_DiagonalMixture):
    """A mixture of K Gaussians of mean zero, with the scales ``component_scale[k] * coord_scale``.

    :param coord_scale: positive, ``(D,)``.
    :param component_logits: ``(K,)``.
    :param component_scale: positive, ``(K,)``.
    """

    arg_constraints = table(
        coord_scale=constraints.independent(constraints.positive, 1),
        component_logits=constraints.real_vector,
        component_scale=constraints.independent(constraints.positive, 1),
    )
    parameter_dims = table(coord_scale=1, component_logits=1, component_scale=1)
    expand = expand_parameters

    def __init__(
        self,
        coord_scale: Tensor,
        component_logits: Tensor,
        component_scale: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        if component_scale.shape[-1:] != component_logits.shape[-1:] or not coord_scale.dim():
            raise ValueError(
                message(
                    "GaussianScaleMixture takes one scale and one logit for each component.",
                    expected="coord_scale (..., D), component_logits (..., K), component_scale (..., K)",
                    actual=f"{tuple(coord_scale.shape)}, {tuple(component_logits.shape)}, "
                    f"{tuple(component_scale.shape)}",
                )
            )
        parameters = coord_scale, component_logits, component_scale
        batch = broadcast_shape(*(each.shape[:-1] for each in parameters))
        self.coord_scale, self.component_logits, self.component_scale = (
            each.expand(batch + each.shape[-1:]) for each in parameters
        )
        TorchDistribution.__init__(self, batch, coord_scale.shape[-1:], validate_args)

    def _components(self) -> tuple[Tensor, Tensor]:
        scales = self.component_scale.unsqueeze(-1) * self.coord_scale.unsqueeze(-2)
        return torch.zeros_like(scales), scales


def _check(family: str, locs: Any, scale: Any, logits: Any, expected: Sequence[int]) -> None:
    """Raise ValueError unless scales and logits fit the means."""
    if (
        locs.dim() < 2
        or tuple(scale.shape[-len(expected) :]) != tuple(expected)
        or logits.shape[-1:] != locs.shape[-2:-1]
    ):
        raise ValueError(
            message(
                f"The parameters of {family} do not fit together.",
                expected=f"locs (..., K, D), coord_scale ending in {tuple(expected)}, logits (..., K)",
                actual=f"{tuple(locs.shape)}, {tuple(scale.shape)}, {tuple(logits.shape)}",
            )
        )
