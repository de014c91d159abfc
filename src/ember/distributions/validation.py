"""Check parameters and values against their constraints, and say what is wrong with them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import lazy_property

from .. import settings
from ..errors import message

# Constraints whose check is a comparison with numbers, so that it can be made on a Python number.
_ELEMENTWISE = frozenset(
    type(each)
    for each in (
        constraints.real,
        constraints.positive,
        constraints.nonnegative,
        constraints.unit_interval,
        constraints.less_than(0.0),
        constraints.half_open_interval(0.0, 1.0),
    )
)

_MANY = 4096  # numbers from which on a pass over all of them costs more than a few calls of torch


def enable_validation(is_validate: bool = True) -> None:
    """Turn validation of ember's distributions on or off (torch's own flag is another setting)."""
    settings.set(validate_distributions_pyro=is_validate)


def is_validation_enabled() -> bool:
    """Say whether ember's distributions are validated in the present context."""
    return bool(settings.get("validate_distributions_pyro"))


@contextlib.contextmanager
def validation_enabled(is_validate: bool = True) -> Iterator[None]:
    """Turn validation of ember's distributions on or off inside a ``with`` block."""
    with settings.context(validate_distributions_pyro=is_validate):
        yield


def satisfied(constraint: Any, value: Tensor) -> bool:
    """Say whether all of ``value`` satisfies ``constraint``; reads the values."""
    if value.dim() == 0 and type(constraint) in _ELEMENTWISE:
        valid = constraint.check(value.item())
        if type(valid) is bool:
            return valid
    if value.numel() >= _MANY:
        found = _satisfied_by_all(constraint, value)
        if found is not None:
            return found
    valid = constraint.check(value)
    return bool(torch._is_all_true(valid))


def _satisfied_by_all(constraint: Any, value: Tensor) -> bool | None:
    """Decide in one pass over many numbers, or return None where that takes a closer look."""
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    kind = type(constraint)
    if kind is type(constraints.boolean):
        if not value.dtype.is_floating_point:
            return None
        # Zero for 0 and 1 only. Two extremes of it take less time than the comparison of two tensors.
        distance = torch.addcmul(value, value, value, value=-1)
        return bool(distance.amax().item() == 0.0 == distance.amin().item())
    bounds = vars(constraint).values()
    if kind not in _ELEMENTWISE or value.is_complex() or any(isinstance(each, Tensor) for each in bounds):
        return None
    if kind is type(constraints.real):
        return True if math.isfinite(value.sum().item()) else None
    # All of these hold between two numbers for which they hold, and extremes are NaN if one number is.
    return all(bool(constraint.check(extreme)) for extreme in value.aminmax())


def check_parameters(distribution: Any) -> None:
    """Raise ValueError if a parameter of ``distribution`` breaks its constraint.

    Dependent constraints and parameters not yet computed are skipped.
    """
    state = distribution.__dict__
    family = type(distribution)
    for name, constraint in distribution.arg_constraints.items():
        if constraints.is_dependent(constraint):
            continue
        value = state.get(name)
        if value is None:
            if isinstance(getattr(family, name, None), lazy_property):
                continue
            value = getattr(distribution, name)
        check_parameter(family.__name__, name, constraint, value)


def check_parameter(family: str, name: str, constraint: Any, value: Any) -> None:
    """Raise ValueError if the tensor ``value`` of parameter ``name`` breaks ``constraint``."""
    if isinstance(value, Tensor) and not satisfied(constraint, value):
        raise ValueError(
            message(
                f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value.shape)}) of "
                f"distribution {family} to satisfy the constraint {constraint!r}, "
                "but found invalid values.",
                expected=f"{name} in {constraint!r}",
                actual=excerpt(constraint, value),
                fix=f"map {name} into its constraint, e.g. with transform_to(constraint)",
            )
        )


def check_sample(distribution: Any, value: Any) -> None:
    """Raise ValueError if ``value`` is no tensor, has a wrong shape, or lies outside of the support."""
    family = type(distribution).__name__
    if not isinstance(value, Tensor):
        raise ValueError(
            message(
                f"The value argument to {family}.log_prob must be a Tensor.",
                actual=f"{value!r} of type {type(value).__name__}",
                fix="convert it with torch.as_tensor",
            )
        )
    expected = distribution._batch_shape + distribution._event_shape
    actual = value.shape
    if actual != expected:
        _check_shape(family, actual, expected, len(distribution._event_shape))
    support = distribution.support
    if support is None or constraints.is_dependent(support):
        return
    if not satisfied(support, value):
        raise ValueError(
            message(
                f"Expected value argument ({type(value).__name__} of shape {tuple(actual)}) to be within the "
                f"support ({support!r}) of the distribution {family}, but found invalid values.",
                expected=f"a value in {support!r}",
                actual=excerpt(support, value),
                fix="correct the value, choose a family with a wider support, or mask those entries",
            )
        )


def _check_shape(family: str, actual: torch.Size, expected: torch.Size, event_dim: int) -> None:
    start = len(actual) - event_dim
    if event_dim and (start < 0 or actual[start:] != expected[len(expected) - event_dim :]):
        raise ValueError(
            message(
                f"The right-most size of value must match the event_shape of {family}.",
                expected=f"event_shape {tuple(expected[len(expected) - event_dim :])}",
                actual=f"a value of shape {tuple(actual)}",
                fix="reshape the value, or use .to_event() on the distribution",
            )
        )
    for i, j in zip(reversed(actual), reversed(expected), strict=False):
        if i != j and i != 1 and j != 1:
            raise ValueError(
                message(
                    f"Value is not broadcastable with batch_shape+event_shape of {family}.",
                    expected=f"a shape that broadcasts with {tuple(expected)}",
                    actual=f"a value of shape {tuple(actual)}",
                    fix="add a dim of size 1 to one of them (tensor.unsqueeze), or use .to_event()",
                )
            )


def excerpt(constraint: Any, value: Tensor, limit: int = 3) -> str:
    """Describe the first entries of ``value`` that break ``constraint``, with their indices."""
    value = value.detach()
    valid = torch.as_tensor(constraint.check(value))
    if valid.dim() == 0:
        return f"{_short(value)}"
    bad = (~valid).nonzero()
    shown = []
    for row in bad[:limit].tolist():
        index = tuple(row)
        place = index[0] if len(index) == 1 else index
        shown.append(f"{_short(value[index])} at index {place}")
    more = len(bad) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def _short(value: Tensor) -> str:
    if value.dim() == 0:
        return f"{value.item():g}"
    return " ".join(str(value).split()) if value.numel() <= 16 else f"a tensor of shape {tuple(value.shape)}"
