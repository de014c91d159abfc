"""Describe constraints in JSON, and make them from such descriptions."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.distributions.constraints import Constraint

from ember.distributions import constraints


def constraint_classes() -> list[type]:
    """Return the classes of all constraints that files may contain."""
    found = {
        value if inspect.isclass(value) else type(value)
        for value in vars(constraints).values()
        if isinstance(value, Constraint) or (inspect.isclass(value) and issubclass(value, Constraint))
    }
    return sorted(found, key=lambda each: each.__name__)


def _singletons() -> dict[str, Constraint]:
    return {name: value for name, value in vars(constraints).items() if isinstance(value, Constraint)}


def _classes() -> dict[str, type]:
    return {each.__name__: each for each in constraint_classes()}


def to_text(constraint: Constraint, name: str) -> Any:
    """Describe a constraint by its name, or by its class and arguments.

    :param name: the parameter's name, for the error.
    :raises ValueError: for a constraint that neither torch nor ember defines.
    """
    for label, known in _singletons().items():
        if known is constraint:
            return label
    kind = type(constraint)
    if _classes().get(kind.__name__) is not kind:
        raise ValueError(
            f"cannot save parameter '{name}': its constraint {constraint!r} is of the user's class "
            f"{kind.__name__}, which a file cannot describe\n"
            "  fix: use a constraint of ember.distributions.constraints"
        )
    return {"class": kind.__name__, "arguments": _arguments(constraint, name)}


def _arguments(constraint: Constraint, name: str) -> dict[str, Any]:
    arguments = {}
    for parameter in inspect.signature(type(constraint).__init__).parameters:
        if parameter != "self" and hasattr(constraint, parameter):
            arguments[parameter] = _encode(getattr(constraint, parameter), name)
    return arguments


def _encode(value: Any, name: str) -> Any:
    if isinstance(value, Constraint):
        return {"constraint": to_text(value, name)}
    if isinstance(value, torch.Tensor):
        return {"tensor": value.detach().tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, (list, tuple)):
        return [_encode(each, name) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"cannot save parameter '{name}': {value!r} in its constraint has no description in a file"
    )


def from_text(text: Any) -> Constraint:
    """Make a constraint from its description.

    :raises KeyError: for an unknown name.
    """
    if isinstance(text, str):
        return _singletons()[text]
    return _classes()[text["class"]](**{key: _decode(value) for key, value in text["arguments"].items()})


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(each) for each in value]
    if isinstance(value, dict):
        if "constraint" in value:
            return from_text(value["constraint"])
        return torch.tensor(value["tensor"], dtype=getattr(torch, value["dtype"]))
    return value
