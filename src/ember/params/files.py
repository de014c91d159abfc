"""Write parameters to files that cannot execute code, and read them back."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributions.constraints import Constraint

from ember.atomic_file import write_atomically
from ember.errors import FileFormatError
from ember.params.constraint_text import constraint_classes, from_text, to_text

_FORMAT = "ember-params-1"


def save(filename: Any, params: Mapping[str, torch.Tensor], constraints: Mapping[str, Constraint]) -> None:
    """Write unconstrained values and constraints to a safetensors file.

    An old file of that name stays until all is written.

    :raises ValueError: naming the parameter, for a constraint that has no description.
    """
    from safetensors.torch import save as to_bytes

    described = {name: to_text(constraint, name) for name, constraint in constraints.items()}
    metadata = {"format": _FORMAT, "constraints": json.dumps(described)}
    # Clones, since parameters may share memory and safetensors refuses that.
    tensors = {name: leaf.detach().clone().contiguous() for name, leaf in params.items()}
    write_atomically(filename, to_bytes(tensors, metadata))


def load(filename: Any, map_location: Any = None) -> tuple[dict[str, torch.Tensor], dict[str, Constraint]]:
    """Read what :func:`save` wrote, or a parameter file of torch's old format.

    :param map_location: device for the tensors.
    :raises FileFormatError: for a truncated or foreign file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(filename)
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file begins with the length of its header, which may look like anything; then comes JSON.
    if start[8:] != b"{" and start.startswith((b"PK", b"\x80")):  # a zip file, or a pickle
        return _load_torch_file(path, map_location)
    try:
        with safe_open(str(path), framework="pt", device=str(map_location or "cpu")) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise _not_ours(path, "a safetensors file without ember's description of constraints")
            described = json.loads(metadata["constraints"])
            params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return _checked(path, params, {name: from_text(text) for name, text in described.items()})
    except (FileFormatError, OSError):
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_ours(path, str(error)) from error


def _load_torch_file(path: Path, map_location: Any) -> tuple[dict[str, torch.Tensor], dict[str, Constraint]]:
    """Read a file of ``torch.save``; nothing but tensors and constraints is unpickled."""
    try:
        # The legacy format of old versions warns about its storages; reading it is all that is asked here.
        with warnings.catch_warnings(), torch.serialization.safe_globals([*constraint_classes()]):
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location=map_location, weights_only=True)
        return _checked(path, state["params"], state["constraints"])
    except (FileFormatError, OSError):
        raise
    except Exception as error:  # damaged pickles fail in many ways
        # Not torch's own text, which advises to load the file unsafely.
        foreign = isinstance(error, pickle.UnpicklingError)
        reason = "it holds what is neither a tensor nor a constraint" if foreign else str(error)
        raise _not_ours(path, reason.partition("\n")[0]) from None


def _checked(path: Path, params: Any, found: Any) -> tuple[dict[str, torch.Tensor], dict[str, Constraint]]:
    """Return what was read, if it is floating point tensors with a constraint each."""
    if set(params) != set(found):
        raise _not_ours(path, "parameters and constraints do not belong together")
    for name, value in params.items():
        if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
            raise _not_ours(path, f"'{name}' is not a floating point tensor")
        if not isinstance(found[name], Constraint):
            raise _not_ours(path, f"'{name}' has no constraint")
    return {name: value.detach() for name, value in params.items()}, found


def _not_ours(path: Path, reason: str) -> FileFormatError:
    return FileFormatError(
        f"cannot read parameters from '{path}': {reason}\n"
        "  expected: a complete file that ParamStoreDict.save wrote\n"
        "  fix: save the parameters again; the store is as it was"
    )
