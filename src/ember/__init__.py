"""Offer the modelling language: the names that programs use after ``import ember``."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ember.collector import permanent_imports

with permanent_imports():
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

if TYPE_CHECKING:
    from ember import engine, infer, nn, ops, optim
    from ember.compat.legacy import iarange, irange
    from ember.model.picture import render_model

# Imported when first asked for, since a program that only builds models needs none of them.
_SUBPACKAGES = ("compat", "contrib", "engine", "infer", "nn", "ops", "optim")


def __getattr__(name: str) -> Any:
    if name == "engine":
        importlib.import_module("ember.model")  # from which engine.explain learns about models
    if name in _SUBPACKAGES and importlib.util.find_spec(f"ember.{name}") is not None:
        return importlib.import_module(f"ember.{name}")
    if name in ("iarange", "irange"):
        return getattr(importlib.import_module("ember.compat.legacy"), name)
    if name == "render_model":
        return importlib.import_module("ember.model.picture").render_model
    if name in ("util", "generic"):  # Pyro's names for what ember keeps elsewhere
        return _pyro_module(name)
    raise AttributeError(f"ember has no attribute '{name}', or not yet in version {__version__}")


def _pyro_module(name: str) -> ModuleType:
    facade = importlib.import_module("ember.compat.facade")
    if not facade.is_module(f"pyro.{name}"):
        raise AttributeError(f"ember has no module '{name}' in version {__version__}")
    found: ModuleType = facade.module_at(f"pyro.{name}")
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "__version__",
    "barrier",
    "clear_param_store",
    "condition",
    "deterministic",
    "distributions",
    "do",
    "enable_validation",
    "engine",
    "factor",
    "get_param_store",
    "iarange",
    "infer",
    "irange",
    "markov",
    "module",
    "nn",
    "ops",
    "optim",
    "param",
    "params",
    "plate",
    "plate_stack",
    "poutine",
    "random_module",
    "render_model",
    "sample",
    "set_rng_seed",
    "settings",
    "subsample",
    "validation_enabled",
]
