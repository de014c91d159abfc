"""Offer Markov chain Monte Carlo: MCMC, its kernels and summaries of draws; re-exports only."""

from typing import TYPE_CHECKING

from ember.elsewhere import names_of
from ember.infer.mcmc import util
from ember.infer.mcmc.abstract_mcmc import AbstractMCMC
from ember.infer.mcmc.adaptation import WarmupAdapter, adapt_window
from ember.infer.mcmc.api import MCMC
from ember.infer.mcmc.hmc import HMC
from ember.infer.mcmc.initialize import initialize_model
from ember.infer.mcmc.mass_matrix import ArrowheadMassMatrix, BlockMassMatrix
from ember.infer.mcmc.mcmc_kernel import MCMCKernel
from ember.infer.mcmc.nuts import NUTS
from ember.infer.mcmc.rwkernel import RandomWalkKernel
from ember.infer.mcmc.streaming import StreamingMCMC
from ember.infer.mcmc.summary import diagnostics, print_summary, select_samples, summary
from ember.infer.prediction.predictive import predictive

if not TYPE_CHECKING:
    __getattr__ = names_of(__name__)

__all__ = [
    "AbstractMCMC",
    "ArrowheadMassMatrix",
    "BlockMassMatrix",
    "HMC",
    "MCMC",
    "MCMCKernel",
    "NUTS",
    "RandomWalkKernel",
    "StreamingMCMC",
    "WarmupAdapter",
    "adapt_window",
    "diagnostics",
    "initialize_model",
    "predictive",
    "print_summary",
    "select_samples",
    "summary",
    "util",
]
