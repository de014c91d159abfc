"""Answer under the module path at which Pyro programs look for these functions; re-exports only."""

from __future__ import annotations

from typing import Any

from ember.infer.mcmc.initialize import initialize_model
from ember.infer.mcmc.summary import diagnostics, print_summary, select_samples, summary
from ember.infer.predictive import Predictive

__all__ = [
    "diagnostics",
    "initialize_model",
    "predictive",
    "print_summary",
    "select_samples",
    "summary",
]


def predictive(model: Any, posterior_samples: Any, *args: Any, **kwargs: Any) -> Any:
    """Draw from the posterior predictive distribution; the function form of :class:`~ember.infer.Predictive`.

    The options ``num_samples``, ``return_sites`` and ``parallel`` are taken out of ``kwargs``,
    ``return_trace`` too.
    """
    return_trace = kwargs.pop("return_trace", False)
    options = {
        name: kwargs.pop(name) for name in ("num_samples", "return_sites", "parallel") if name in kwargs
    }
    sampler = Predictive(model, posterior_samples, **options)
    return sampler.get_vectorized_trace(*args, **kwargs) if return_trace else sampler(*args, **kwargs)
