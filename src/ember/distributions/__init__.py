"""Offer probability distributions, their constraints and transforms; usable without the language."""

from typing import TYPE_CHECKING

from torch.distributions import ExponentialFamily

from ember.elsewhere import names_of

from . import constraints, kl, transforms
from .bijections import biject_to, transform_to
from .bounded import AffineBeta, Beta, ContinuousBernoulli, Kumaraswamy, Uniform
from .coalescent import CoalescentRateLikelihood, CoalescentTimes, CoalescentTimesWithRate
from .compound_counts import (
    BetaBinomial,
    DirichletMultinomial,
    ExtendedBetaBinomial,
    GammaPoisson,
    LogNormalNegativeBinomial,
)
from .conditional import (
    ConditionalDistribution,
    ConditionalTransformedDistribution,
    ConstantConditionalDistribution,
)
from .counts import Binomial, ExtendedBinomial, Geometric, NegativeBinomial, Poisson
from .diagonal_mixtures import (
    GaussianScaleMixture,
    MixtureOfDiagNormals,
    MixtureOfDiagNormalsSharedCovariance,
)
from .directional import ProjectedNormal, VonMises, VonMises3D
from .discrete import Bernoulli, Categorical, OrderedLogistic
from .distribution import Distribution
from .empirical import Empirical, ImproperUniform
from .expanded import ExpandedDistribution
from .grouped import GroupedNormalNormal
from .hidden_markov import (
    DiscreteHMM,
    GammaGaussianHMM,
    GaussianHMM,
    GaussianMRF,
    HiddenMarkovModel,
    IndependentHMM,
    LinearHMM,
)
from .independent import Independent
from .kl import kl_divergence, register_kl
from .masked import MaskedDistribution
from .matchings import OneOneMatching, OneTwoMatching
from .matrices import LKJ, LKJCholesky, Wishart
from .mixtures import MaskedMixture, MixtureSameFamily
from .multivariate import LowRankMultivariateNormal, MultivariateNormal, MultivariateStudentT
from .nan_masked import NanMaskedMultivariateNormal, NanMaskedNormal
from .one_hot import (
    Multinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)
from .point import Delta, Unit
from .polya_gamma import TruncatedPolyaGamma
from .positive import Chi2, Exponential, Gamma, HalfCauchy, HalfNormal, InverseGamma, LogNormal
from .real import Cauchy, Laplace, Logistic, Normal, StudentT
from .rejector import Rejector
from .relaxed import (
    RelaxedBernoulli,
    RelaxedBernoulliStraightThrough,
    RelaxedOneHotCategorical,
    RelaxedOneHotCategoricalStraightThrough,
)
from .scaling import ScoreParts, is_identically_one, is_identically_zero, scale_and_mask
from .shapes import broadcast_shape, sum_leftmost, sum_rightmost
from .simplex import Dirichlet, LogisticNormal
from .skewed import AsymmetricLaplace, SkewLogistic, SoftAsymmetricLaplace, SoftLaplace
from .spanning_tree import SpanningTree
from .stable import Stable, StableWithLogProb
from .tails import FisherSnedecor, FoldedDistribution, GeneralizedPareto, Gumbel, Pareto, Weibull
from .torch_distribution import TorchDistribution, TorchDistributionMixin
from .toroidal import SineBivariateVonMises, SineSkewed
from .transformed import TransformedDistribution
from .transforms import ConditionalTransform, ConditionalTransformModule
from .transport import OMTMultivariateNormal
from .truncated import TruncatedNormal
from .validation import enable_validation, is_validation_enabled, validation_enabled
from .velocity_fields import AVFMultivariateNormal
from .zero_inflated import ZeroInflatedDistribution, ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = [
    "AVFMultivariateNormal",
    "OneOneMatching",
    "OneTwoMatching",
    "CoalescentRateLikelihood",
    "CoalescentTimes",
    "CoalescentTimesWithRate",
    "LogNormalNegativeBinomial",
    "GaussianScaleMixture",
    "MixtureOfDiagNormals",
    "MixtureOfDiagNormalsSharedCovariance",
    "VonMises3D",
    "GroupedNormalNormal",
    "TruncatedPolyaGamma",
    "Rejector",
    "SpanningTree",
    "SineBivariateVonMises",
    "SineSkewed",
    "OMTMultivariateNormal",
    "LKJ",
    "AffineBeta",
    "AsymmetricLaplace",
    "Bernoulli",
    "Beta",
    "BetaBinomial",
    "Binomial",
    "Categorical",
    "Cauchy",
    "Chi2",
    "ConditionalDistribution",
    "ConditionalTransform",
    "ConditionalTransformModule",
    "ConditionalTransformedDistribution",
    "ConstantConditionalDistribution",
    "ContinuousBernoulli",
    "Delta",
    "Dirichlet",
    "DirichletMultinomial",
    "DiscreteHMM",
    "Distribution",
    "Empirical",
    "ExpandedDistribution",
    "Exponential",
    "ExponentialFamily",
    "ExtendedBetaBinomial",
    "ExtendedBinomial",
    "FisherSnedecor",
    "FoldedDistribution",
    "Gamma",
    "GammaGaussianHMM",
    "GammaPoisson",
    "GaussianHMM",
    "GaussianMRF",
    "GeneralizedPareto",
    "Geometric",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "HiddenMarkovModel",
    "ImproperUniform",
    "Independent",
    "IndependentHMM",
    "InverseGamma",
    "Kumaraswamy",
    "LKJCholesky",
    "Laplace",
    "LinearHMM",
    "LogNormal",
    "Logistic",
    "LogisticNormal",
    "LowRankMultivariateNormal",
    "MaskedDistribution",
    "MaskedMixture",
    "MixtureSameFamily",
    "Multinomial",
    "MultivariateNormal",
    "MultivariateStudentT",
    "NanMaskedMultivariateNormal",
    "NanMaskedNormal",
    "NegativeBinomial",
    "Normal",
    "OneHotCategorical",
    "OneHotCategoricalStraightThrough",
    "OrderedLogistic",
    "Pareto",
    "Poisson",
    "ProjectedNormal",
    "RelaxedBernoulli",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategorical",
    "RelaxedOneHotCategoricalStraightThrough",
    "ScoreParts",
    "SkewLogistic",
    "SoftAsymmetricLaplace",
    "SoftLaplace",
    "Stable",
    "StableWithLogProb",
    "StudentT",
    "TorchDistribution",
    "TorchDistributionMixin",
    "TransformedDistribution",
    "TruncatedNormal",
    "Uniform",
    "Unit",
    "VonMises",
    "Weibull",
    "Wishart",
    "ZeroInflatedDistribution",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "biject_to",
    "broadcast_shape",
    "constraints",
    "enable_validation",
    "is_identically_one",
    "is_identically_zero",
    "is_validation_enabled",
    "kl",
    "kl_divergence",
    "register_kl",
    "scale_and_mask",
    "sum_leftmost",
    "sum_rightmost",
    "transform_to",
    "transforms",
    "validation_enabled",
]
