"""Offer inference: what users call to get posteriors; re-exports only."""

from ember.infer.discrete import infer_discrete
from ember.infer.elbo import ELBO
from ember.infer.elbo_enum import TraceEnum_ELBO
from ember.infer.elbo_graph import TraceGraph_ELBO
from ember.infer.elbo_mean_field import TraceMeanField_ELBO
from ember.infer.elbo_mmd import Trace_MMD
from ember.infer.elbo_renyi import RenyiELBO
from ember.infer.elbo_tail_adaptive import TraceTailAdaptive_ELBO
from ember.infer.elbo_trace import Trace_ELBO
from ember.infer.energy_distance import EnergyDistance
from ember.infer.enum import config_enumerate
from ember.infer.mcmc import HMC, MCMC, NUTS
from ember.infer.predictive import Predictive
from ember.infer.reweighted_wake_sleep import ReweightedWakeSleep
from ember.infer.stein_kernels import IMQSteinKernel, RBFSteinKernel
from ember.infer.svgd import SVGD
from ember.infer.svi import SVI

__all__ = [
    "ELBO",
    "EnergyDistance",
    "HMC",
    "IMQSteinKernel",
    "MCMC",
    "NUTS",
    "Predictive",
    "RBFSteinKernel",
    "RenyiELBO",
    "ReweightedWakeSleep",
    "SVGD",
    "SVI",
    "TraceGraph_ELBO",
    "TraceEnum_ELBO",
    "TraceMeanField_ELBO",
    "TraceTailAdaptive_ELBO",
    "Trace_ELBO",
    "config_enumerate",
    "infer_discrete",
    "Trace_MMD",
]
