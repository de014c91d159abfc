"""Define families on the simplex."""

from __future__ import annotations

import torch

from .torch_distribution import TorchDistribution, expand_parameters


class Dirichlet(torch.distributions.Dirichlet, TorchDistribution):
    """The Dirichlet distribution with ``concentration`` along the last dim."""

    parameter_dims = {"concentration": 1}
    expand = expand_parameters
