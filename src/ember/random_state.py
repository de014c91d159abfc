"""Seed, read and restore the generators of torch, numpy and Python together."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def set_rng_seed(rng_seed: int) -> None:
    """Seed torch, numpy and Python's ``random``, and with them everything that ember draws.

    :raises ValueError: if numpy or torch refuse the seed (it must lie in [0, 2**32)).
    """
    if not 0 <= rng_seed < 2**32:
        raise ValueError(f"rng_seed must lie between 0 and 2**32 - 1, got {rng_seed}")
    torch.manual_seed(rng_seed)
    random.seed(rng_seed)
    np.random.seed(rng_seed)


def get_rng_state() -> dict[str, Any]:
    """Return the states of the three generators, for :func:`set_rng_state`."""
    return {"torch": torch.get_rng_state(), "random": random.getstate(), "numpy": np.random.get_state()}


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore the states of the three generators."""
    torch.set_rng_state(state["torch"])
    if "random" in state:
        random.setstate(state["random"])
    if "numpy" in state:
        np.random.set_state(state["numpy"])
