"""Offer packages built on the language: Gaussian processes, forecasting and other kinds of models."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def __getattr__(name: str) -> Any:
    """Import a package when it is first asked for; also those that ember keeps elsewhere (``zuko``)."""
    if importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    facade = importlib.import_module("ember.compat.facade")
    if name.startswith("_") or not facade.is_module(f"pyro.contrib.{name}"):
        raise AttributeError(f"ember.contrib has no package '{name}'")
    return facade.module_at(f"pyro.contrib.{name}")
