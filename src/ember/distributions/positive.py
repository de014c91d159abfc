"""Define families on the positive half-line."""

from __future__ import annotations

import torch

from .torch_distribution import TorchDistribution, expand_parameters


class Exponential(torch.distributions.Exponential, TorchDistribution):
    """The waiting time for an event of rate ``rate`` (positive)."""

    parameter_dims = {"rate": 0}
    expand = expand_parameters


class Gamma(torch.distributions.Gamma, TorchDistribution):
    """The gamma distribution with shape ``concentration`` and ``rate``, both positive."""

    parameter_dims = {"concentration": 0, "rate": 0}
    expand = expand_parameters


class HalfNormal(torch.distributions.HalfNormal, TorchDistribution):
    """The absolute value of a centred Gaussian of standard deviation ``scale`` (positive)."""


class HalfCauchy(torch.distributions.HalfCauchy, TorchDistribution):
    """The absolute value of a centred Cauchy variable of scale ``scale`` (positive)."""


class LogNormal(torch.distributions.LogNormal, TorchDistribution):
    """The exponential of a Gaussian of mean ``loc`` and standard deviation ``scale``."""
