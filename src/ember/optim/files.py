"""Write optimiser states to files that cannot execute code, and read them back."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ember.atomic_file import write_atomically
from ember.errors import FileFormatError

_FORMAT = "ember-optim-1"


def save(filename: Any, state: dict[str, Any]) -> None:
    """Write nested dicts, lists, numbers and tensors to a safetensors file, atomically.

    :raises ValueError: naming the parameter, for values that a file cannot describe (such as functions).
    """
    from safetensors.torch import save as to_bytes

    tensors: dict[str, Tensor] = {}
    described = {name: _encode(each, tensors, name) for name, each in state.items()}
    metadata = {"format": _FORMAT, "state": json.dumps(described)}
    write_atomically(filename, to_bytes(tensors, metadata))


def _encode(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().clone().contiguous()
        return {"tensor": key}
    if isinstance(value, dict):
        # Pairs, since keys may be numbers.
        return {"dict": [[key, _encode(each, tensors, name)] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(each, tensors, name) for each in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"cannot save the optimiser state of parameter '{name}': a file cannot describe {value!r}\n"
        "  fix: save parameters by the store, and make the optimiser anew"
    )


def load(filename: Any, map_location: Any = None) -> dict[str, Any]:
    """Read what :func:`save` wrote, or a file of ``torch.save`` that holds tensors and numbers only.

    :raises FileFormatError: for a truncated or foreign file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(filename)
    if path.read_bytes()[:2] in (b"PK", b"\x80\x02"):
        return _load_torch_file(path, map_location)
    try:
        with safe_open(str(path), framework="pt", device=str(map_location or "cpu")) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise _not_ours(path, "a safetensors file without an optimiser's state")
            described = json.loads(metadata["state"])
            return {name: _decode(each, file) for name, each in described.items()}
    except (SafetensorError, json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise _not_ours(path, str(error)) from error


def _decode(value: Any, file: Any) -> Any:
    if isinstance(value, dict):
        kind, content = next(iter(value.items()))
        if kind == "tensor":
            return file.get_tensor(content)
        if kind == "dict":
            return {key: _decode(each, file) for key, each in content}
        decoded = [_decode(each, file) for each in content]
        return tuple(decoded) if kind == "tuple" else decoded
    return value


def _load_torch_file(path: Path, map_location: Any) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise _not_ours(path, str(error).partition("\n")[0]) from error
    if not isinstance(state, dict):
        raise _not_ours(path, f"it holds a {type(state).__name__}")
    return state


def _not_ours(path: Path, reason: str) -> FileFormatError:
    return FileFormatError(
        f"cannot read an optimiser's state from '{path}': {reason}\n"
        "  expected: a complete file that PyroOptim.save wrote\n"
        "  fix: save the state again; the optimiser is as it was"
    )
