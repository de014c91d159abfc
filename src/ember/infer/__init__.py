"""Offer inference: what users call to get posteriors; re-exports only."""

from ember.infer.mcmc import HMC, MCMC, NUTS
from ember.infer.predictive import Predictive

__all__ = [
    "HMC",
    "MCMC",
    "NUTS",
    "Predictive",
]
