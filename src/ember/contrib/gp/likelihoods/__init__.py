"""Offer distributions of observations given the values of a Gaussian process."""

from ember.contrib.gp.likelihoods.discrete import Binary, MultiClass, Poisson
from ember.contrib.gp.likelihoods.gaussian import Gaussian
from ember.contrib.gp.likelihoods.likelihood import Likelihood

__all__ = ["Binary", "Gaussian", "Likelihood", "MultiClass", "Poisson"]
