"""Offer the modelling language: the names that programs use after ``import ember``."""

from ember import distributions, params, poutine, settings
from ember.params import clear_param_store, get_param_store
from ember.poutine import condition, do, markov
from ember.primitives import (
    barrier,
    deterministic,
    enable_validation,
    factor,
    module,
    param,
    plate,
    plate_stack,
    random_module,
    sample,
    subsample,
    validation_enabled,
)
from ember.random_state import set_rng_seed
from ember.version import __version__

__all__ = [
    "__version__",
    "barrier",
    "clear_param_store",
    "condition",
    "deterministic",
    "distributions",
    "do",
    "enable_validation",
    "factor",
    "get_param_store",
    "markov",
    "module",
    "param",
    "params",
    "plate",
    "plate_stack",
    "poutine",
    "random_module",
    "sample",
    "set_rng_seed",
    "settings",
    "subsample",
    "validation_enabled",
]
