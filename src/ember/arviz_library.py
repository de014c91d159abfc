"""Import ArviZ without the announcement that it makes once a day."""

from __future__ import annotations

import importlib
import warnings
from typing import Any


def load_arviz() -> Any:
    """Return the module; importing it takes a second, so that only what needs it asks for it."""
    with warnings.catch_warnings():
        # That a later version will be another one is not for the reader of a posterior to act on.
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing", FutureWarning)
        return importlib.import_module("arviz")
