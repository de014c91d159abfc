"""Estimate the expected information gain of designs of experiments."""

from ember.contrib.oed.nested import nmc_eig
from ember.contrib.oed.optimisation import opt_eig_ape_loss
from ember.contrib.oed.ratios import donsker_varadhan_eig, lfire_eig
from ember.contrib.oed.shapes import lexpand
from ember.contrib.oed.variational import (
    marginal_eig,
    marginal_likelihood_eig,
    posterior_eig,
    vnmc_eig,
)

__all__ = [
    "donsker_varadhan_eig",
    "lexpand",
    "lfire_eig",
    "marginal_eig",
    "marginal_likelihood_eig",
    "nmc_eig",
    "opt_eig_ape_loss",
    "posterior_eig",
    "vnmc_eig",
]
