"""Offer inference: what users call to get posteriors; re-exports only."""

from ember.infer.elbo import ELBO
from ember.infer.elbo_mean_field import TraceMeanField_ELBO
from ember.infer.elbo_trace import Trace_ELBO
from ember.infer.mcmc import HMC, MCMC, NUTS
from ember.infer.predictive import Predictive
from ember.infer.svi import SVI

__all__ = [
    "ELBO",
    "HMC",
    "MCMC",
    "NUTS",
    "Predictive",
    "SVI",
    "TraceMeanField_ELBO",
    "Trace_ELBO",
]
