"""Write nested states to files that cannot execute code, and read them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ember.atomic_file import write_atomically
from ember.errors import FileFormatError


def save(filename: Any, state: dict[str, Any], form: str, what: str) -> None:
    """Write nested dicts, lists, tuples, numbers, texts and tensors to a safetensors file, atomically.

    :param form: name of the format, which :func:`load` asks for.
    :param what: what the file holds, for the error.
    :raises ValueError: naming the entry, for values that a file cannot describe (such as functions).
    """
    from safetensors.torch import save as to_bytes

    tensors: dict[str, Tensor] = {}
    described = {name: _encode(each, tensors, name, what) for name, each in state.items()}
    write_atomically(filename, to_bytes(tensors, {"format": form, "state": json.dumps(described)}))


def _encode(value: Any, tensors: dict[str, Tensor], name: str, what: str) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        # Clones, since tensors may share memory and safetensors refuses that.
        tensors[key] = value.detach().clone().contiguous()
        return {"tensor": key}
    if isinstance(value, dict):
        # Pairs, since keys may be numbers.
        return {"dict": [[key, _encode(each, tensors, name, what)] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(each, tensors, name, what) for each in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"cannot save {what} of '{name}': a file cannot describe {value!r}")


def load(filename: Any, form: str, what: str, map_location: Any = None) -> dict[str, Any]:
    """Read what :func:`save` wrote under the same ``form``.

    :param map_location: device for the tensors.
    :raises FileFormatError: for a truncated or foreign file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(filename)
    try:
        with safe_open(str(path), framework="pt", device=str(map_location or "cpu")) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != form:
                raise unreadable(path, what, f"a safetensors file without {what}")
            described = json.loads(metadata["state"])
            return {name: _decode(each, file) for name, each in described.items()}
    except (SafetensorError, json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
        raise unreadable(path, what, str(error)) from error


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


def unreadable(path: Any, what: str, reason: str) -> FileFormatError:
    """Return the error that says why a file cannot be read."""
    return FileFormatError(
        f"cannot read {what} from '{path}': {reason}\n"
        "  expected: a complete file, as it was saved\n"
        "  fix: save it again, or take an older one; nothing was changed"
    )
