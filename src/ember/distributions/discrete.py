"""Define families on finitely many values."""

from __future__ import annotations

import torch

from .torch_distribution import TorchDistribution, expand_parameters


class Bernoulli(torch.distributions.Bernoulli, TorchDistribution):
    """A binary variable, by ``probs`` or ``logits``."""

    parameter_dims = {"probs": 0, "logits": 0, "_param": 0}
    expand = expand_parameters


class Categorical(torch.distributions.Categorical, TorchDistribution):
    """An index, by ``probs`` or ``logits`` along the last dim."""

    parameter_dims = {"probs": 1, "logits": 1, "_param": 1}
    expand = expand_parameters
