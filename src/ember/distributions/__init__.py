"""Offer probability distributions, their constraints and transforms; usable without the language."""

from torch.distributions import biject_to, kl_divergence, register_kl, transform_to

from . import constraints, transforms
from .bounded import Beta, Uniform
from .discrete import Bernoulli, Categorical
from .distribution import Distribution
from .expanded import ExpandedDistribution
from .independent import Independent
from .masked import MaskedDistribution
from .point import Delta, Unit
from .positive import Exponential, Gamma, HalfCauchy, HalfNormal, LogNormal
from .real import Normal
from .scaling import ScoreParts
from .simplex import Dirichlet
from .torch_distribution import TorchDistribution, TorchDistributionMixin
from .validation import enable_validation, is_validation_enabled, validation_enabled

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "Delta",
    "Dirichlet",
    "Distribution",
    "ExpandedDistribution",
    "Exponential",
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "Independent",
    "LogNormal",
    "MaskedDistribution",
    "Normal",
    "ScoreParts",
    "TorchDistribution",
    "TorchDistributionMixin",
    "Uniform",
    "Unit",
    "biject_to",
    "constraints",
    "enable_validation",
    "is_validation_enabled",
    "kl_divergence",
    "register_kl",
    "transform_to",
    "transforms",
    "validation_enabled",
]
