"""Define continuous families on intervals."""

from __future__ import annotations

import torch

from .torch_distribution import TorchDistribution, expand_parameters


class Beta(torch.distributions.Beta, TorchDistribution):
    """The beta distribution on the unit interval."""


class Uniform(torch.distributions.Uniform, TorchDistribution):
    """The uniform distribution on [low, high)."""

    parameter_dims = {"low": 0, "high": 0}
    expand = expand_parameters
