"""Offer causal effects from observational data by variational autoencoders."""

from ember.contrib.cevae.cevae import CEVAE
from ember.contrib.cevae.model import Guide, Model, TraceCausalEffect_ELBO
from ember.contrib.cevae.networks import (
    BernoulliNet,
    DiagNormalNet,
    DistributionNet,
    ExponentialNet,
    FullyConnected,
    LaplaceNet,
    NormalNet,
    PreWhitener,
    StudentTNet,
)

__all__ = [
    "CEVAE",
    "BernoulliNet",
    "DiagNormalNet",
    "DistributionNet",
    "ExponentialNet",
    "FullyConnected",
    "Guide",
    "LaplaceNet",
    "Model",
    "NormalNet",
    "PreWhitener",
    "StudentTNet",
    "TraceCausalEffect_ELBO",
]
