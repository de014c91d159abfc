"""Offer inference: what users call to get posteriors; re-exports only."""

from ember.infer.discrete import infer_discrete
from ember.infer.elbo import ELBO
from ember.infer.elbo_enum import TraceEnum_ELBO
from ember.infer.elbo_graph import TraceGraph_ELBO
from ember.infer.elbo_mean_field import TraceMeanField_ELBO
from ember.infer.elbo_mmd import Trace_MMD
from ember.infer.elbo_renyi import RenyiELBO
from ember.infer.elbo_tail_adaptive import TraceTailAdaptive_ELBO
from ember.infer.elbo_tmc import TraceTMC_ELBO
from ember.infer.elbo_trace import Trace_ELBO
from ember.infer.energy_distance import EnergyDistance
from ember.infer.enum import config_enumerate
from ember.infer.importance import (
    EmpiricalMarginal,
    Importance,
    TracePosterior,
    psis_diagnostic,
    vectorized_importance_weights,
)
from ember.infer.mcmc import HMC, MCMC, NUTS
from ember.infer.predictive import Predictive
from ember.infer.reweighted_wake_sleep import ReweightedWakeSleep
from ember.infer.smcfilter import Resampler, SMCFailed, SMCFilter, SMCState
from ember.infer.stein_kernels import IMQSteinKernel, RBFSteinKernel
from ember.infer.svgd import SVGD
from ember.infer.svi import SVI
from ember.infer.training import Plateau, StepInfo, SVIResult
from ember.infer.weighed_predictive import WeighedPredictive

__all__ = [
    "ELBO",
    "EmpiricalMarginal",
    "EnergyDistance",
    "HMC",
    "IMQSteinKernel",
    "Importance",
    "MCMC",
    "NUTS",
    "Plateau",
    "Predictive",
    "RBFSteinKernel",
    "RenyiELBO",
    "Resampler",
    "ReweightedWakeSleep",
    "SMCFailed",
    "SMCFilter",
    "SMCState",
    "SVGD",
    "SVI",
    "SVIResult",
    "StepInfo",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "TracePosterior",
    "TraceTMC_ELBO",
    "TraceTailAdaptive_ELBO",
    "Trace_ELBO",
    "Trace_MMD",
    "WeighedPredictive",
    "config_enumerate",
    "infer_discrete",
    "psis_diagnostic",
    "vectorized_importance_weights",
]
