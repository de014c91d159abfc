"""Answer under the module path at which Pyro programs look for these functions; re-exports only."""

from ember.infer.mcmc.initialize import initialize_model
from ember.infer.mcmc.summary import diagnostics, print_summary, select_samples, summary
from ember.infer.prediction.predictive import predictive

__all__ = [
    "diagnostics",
    "initialize_model",
    "predictive",
    "print_summary",
    "select_samples",
    "summary",
]
