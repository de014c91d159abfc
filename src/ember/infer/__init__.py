"""Offer inference: what users call to get posteriors; re-exports only."""

from typing import TYPE_CHECKING

from ember import settings as _settings
from ember.elsewhere import names_of
from ember.infer.compiled_inference import CSIS
from ember.infer.discrete import infer_discrete
from ember.infer.enum import config_enumerate
from ember.infer.importance import (
    EmpiricalMarginal,
    Importance,
    TracePosterior,
    TracePredictive,
    psis_diagnostic,
    smooth_weights,
    vectorized_importance_weights,
)
from ember.infer.mcmc import HMC, MCMC, NUTS, RandomWalkKernel
from ember.infer.objectives.elbo import ELBO
from ember.infer.objectives.energy_distance import EnergyDistance
from ember.infer.objectives.enumerated import TraceEnum_ELBO
from ember.infer.objectives.enumerated_sample import TraceEnumSample_ELBO
from ember.infer.objectives.graph import TraceGraph_ELBO
from ember.infer.objectives.jit import (
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
)
from ember.infer.objectives.mean_field import TraceMeanField_ELBO
from ember.infer.objectives.mmd import Trace_MMD
from ember.infer.objectives.renyi import RenyiELBO
from ember.infer.objectives.reweighted_wake_sleep import ReweightedWakeSleep
from ember.infer.objectives.tail_adaptive import TraceTailAdaptive_ELBO
from ember.infer.objectives.tmc import TraceTMC_ELBO
from ember.infer.objectives.trace import Trace_ELBO
from ember.infer.prediction.log_likelihood import log_likelihood
from ember.infer.prediction.predictive import Predictive
from ember.infer.prediction.weighed import WeighedPredictive
from ember.infer.resampler import MHResampler
from ember.infer.smcfilter import Resampler, SMCFailed, SMCFilter, SMCState
from ember.infer.stein_kernels import IMQSteinKernel, RBFSteinKernel
from ember.infer.svgd import SVGD
from ember.infer.svi import SVI
from ember.infer.training import Plateau, StepInfo, SVIResult


def enable_validation(is_validate: bool = True) -> None:
    """Switch the checks of inference, such as those of guides against models, on or off."""
    _settings.set(validate_infer=is_validate)


def is_validation_enabled() -> bool:
    """Whether the checks of inference are on."""
    return bool(_settings.read("validate_infer"))


if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = [
    "CSIS",
    "ELBO",
    "EmpiricalMarginal",
    "EnergyDistance",
    "HMC",
    "IMQSteinKernel",
    "Importance",
    "JitTraceEnum_ELBO",
    "JitTraceGraph_ELBO",
    "JitTraceMeanField_ELBO",
    "JitTrace_ELBO",
    "MCMC",
    "MHResampler",
    "NUTS",
    "Plateau",
    "Predictive",
    "RBFSteinKernel",
    "RandomWalkKernel",
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
    "TraceEnumSample_ELBO",
    "TraceEnum_ELBO",
    "TraceGraph_ELBO",
    "TraceMeanField_ELBO",
    "TracePosterior",
    "TracePredictive",
    "TraceTMC_ELBO",
    "TraceTailAdaptive_ELBO",
    "Trace_ELBO",
    "Trace_MMD",
    "WeighedPredictive",
    "config_enumerate",
    "enable_validation",
    "infer_discrete",
    "is_validation_enabled",
    "log_likelihood",
    "psis_diagnostic",
    "smooth_weights",
    "vectorized_importance_weights",
]
