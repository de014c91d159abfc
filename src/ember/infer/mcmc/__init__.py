"""Offer Markov chain Monte Carlo: MCMC and its kernels; re-exports only."""

from ember.infer.mcmc.api import MCMC
from ember.infer.mcmc.hmc import HMC
from ember.infer.mcmc.initialize import initialize_model
from ember.infer.mcmc.mcmc_kernel import MCMCKernel
from ember.infer.mcmc.nuts import NUTS

__all__ = ["HMC", "MCMC", "MCMCKernel", "NUTS", "initialize_model"]
