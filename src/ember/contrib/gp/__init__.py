"""Offer Gaussian processes: kernels, likelihoods, exact, sparse and variational models."""

from ember.contrib.gp import kernels, likelihoods, models, parameterized
from ember.contrib.gp import posterior as util
from ember.contrib.gp.parameterized import Parameterized

__all__ = ["Parameterized", "kernels", "likelihoods", "models", "parameterized", "util"]
