"""Write optimiser states to files that cannot execute code, and read them back."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from ember import state_file

_FORMAT = "ember-optim-1"
_WHAT = "an optimiser's state"


def save(filename: Any, state: dict[str, Any]) -> None:
    """Write a state by parameter name to a safetensors file, atomically.

    :raises ValueError: naming the parameter, for values that a file cannot describe (such as functions).
    """
    state_file.save(filename, state, _FORMAT, _WHAT)


def load(filename: Any, map_location: Any = None) -> dict[str, Any]:
    """Read what :func:`save` wrote, or a file of ``torch.save`` that holds tensors and numbers only.

    :raises FileFormatError: for a truncated or foreign file.
    """
    path = Path(filename)
    if path.read_bytes()[:2] in (b"PK", b"\x80\x02"):
        return _load_torch_file(path, map_location)
    return state_file.load(path, _FORMAT, _WHAT, map_location)


def _load_torch_file(path: Path, map_location: Any) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise state_file.unreadable(path, _WHAT, str(error).partition("\n")[0]) from error
    if not isinstance(state, dict):
        raise state_file.unreadable(path, _WHAT, f"it holds a {type(state).__name__}")
    return state
