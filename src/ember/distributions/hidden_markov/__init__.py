"""Offer chains of hidden states with exact likelihoods; re-exports only."""

from .discrete import DiscreteHMM
from .gamma_gaussian import GammaGaussianHMM
from .gaussian import GaussianHMM
from .hidden_markov_model import HiddenMarkovModel
from .independent import IndependentHMM
from .linear import LinearHMM
from .markov_random_field import GaussianMRF

__all__ = [
    "DiscreteHMM",
    "GammaGaussianHMM",
    "GaussianHMM",
    "GaussianMRF",
    "HiddenMarkovModel",
    "IndependentHMM",
    "LinearHMM",
]
