"""Integrate normal effects of groups out of normal observations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import message
from . import constraints
from .parameters import table
from .real import Normal
from .torch_distribution import TorchDistribution


class GroupedNormalNormal(TorchDistribution):
    """Normal observations in groups whose means are themselves normal, and integrated out.

    The means are Normal(prior_loc, prior_scale), observation i is Normal(mean[group_idx[i]], obs_scale[i]).
    ``log_prob`` takes all observations at once, and returns a scalar; there are no draws.

    :param prior_loc: ``(G,)``.
    :param prior_scale: positive, ``(G,)``.
    :param obs_scale: positive, ``(N,)``.
    :param group_idx: integers from 0 to G - 1, ``(N,)``.
    :raises ValueError: if shapes do not fit together.
    """

    arg_constraints = table(
        prior_loc=constraints.real, prior_scale=constraints.positive, obs_scale=constraints.positive
    )
    support = constraints.real

    def __init__(
        self,
        prior_loc: Tensor,
        prior_scale: Tensor,
        obs_scale: Tensor,
        group_idx: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        if (
            prior_loc.dim() != 1
            or group_idx.dim() != 1
            or prior_scale.shape not in (prior_loc.shape, torch.Size(), torch.Size((1,)))
            or obs_scale.shape not in (group_idx.shape, torch.Size(), torch.Size((1,)))
        ):
            raise ValueError(
                message(
                    "The parameters of GroupedNormalNormal do not fit together.",
                    expected="prior_loc and prior_scale (G,), obs_scale and group_idx (N,)",
                    actual=f"{tuple(prior_loc.shape)}, {tuple(prior_scale.shape)}, {tuple(obs_scale.shape)}, "
                    f"{tuple(group_idx.shape)}",
                )
            )
        self.num_groups = prior_loc.shape[0]
        self.prior_loc = prior_loc
        self.prior_scale = prior_scale.expand(prior_loc.shape)
        self.obs_scale = obs_scale.expand(group_idx.shape)
        self.group_idx = group_idx
        TorchDistribution.__init__(self, validate_args=validate_args)

    def _pooled(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return residuals, and for each group the precision of the data and their weighted sum."""
        if value.shape != self.group_idx.shape:
            raise ValueError(f"expected {tuple(self.group_idx.shape)} observations, got {tuple(value.shape)}")
        weights = self.obs_scale.square().reciprocal()
        residuals = value - self.prior_loc[self.group_idx]
        zeros = torch.zeros_like(self.prior_loc)
        precision = zeros.index_add(0, self.group_idx, weights)
        return residuals, precision, zeros.index_add(0, self.group_idx, weights * residuals)

    def get_posterior(self, value: Tensor) -> Normal:
        """Return the distribution of the groups' means given the observations."""
        _, precision, total = self._pooled(value)
        precision = precision + self.prior_scale.square().reciprocal()
        return Normal(self.prior_loc + total / precision, precision.rsqrt())

    def log_prob(self, value: Tensor) -> Tensor:
        residuals, precision, total = self._pooled(value)
        prior = self.prior_scale.square().reciprocal()
        apart = (
            -0.5 * (residuals / self.obs_scale).square()
            - self.obs_scale.log()
            - 0.5 * math.log(2.0 * math.pi)
        )
        together = 0.5 * total.square() / (precision + prior) - 0.5 * (precision / prior).log1p()
        return apart.sum() + together.sum()
