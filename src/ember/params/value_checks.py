"""Check that values lie inside constraints: initial ones, and those that were loaded."""

from __future__ import annotations

import torch
from torch.distributions.constraints import Constraint

from ember.distributions.constraints import transform_to
from ember.errors import message
from ember.params.constraint_text import to_text


def check_value(name: str, value: torch.Tensor, constraint: Constraint) -> None:
    """Raise ValueError if a parameter's value violates its constraint."""
    if not _satisfies(value, constraint):
        raise ValueError(
            message(
                f"the value of parameter '{name}' violates its constraint",
                site=name,
                expected=f"a value that satisfies {constraint}",
                actual=f"{_excerpt(value)} of shape {tuple(value.shape)}",
                fix="choose a value inside the constraint, or another constraint",
            )
        )


def check_loaded(name: str, leaf: torch.Tensor, stored: Constraint, asked: Constraint) -> None:
    """Raise ValueError if a loaded parameter is NaN, or not what the program asks for.

    A value that was loaded under another constraint may satisfy the program's, too.

    :param leaf: its unconstrained value.
    :param stored: the constraint that came with it.
    :param asked: that of the program's statement.
    """
    with torch.no_grad():
        fine = not bool(leaf.isnan().any())
        value = transform_to(stored)(leaf)
        if fine and not _same(name, stored, asked):
            fine = _satisfies(value, asked)
    if not fine:
        raise ValueError(
            message(
                f"the loaded value of parameter '{name}' is outside of its constraint",
                site=name,
                expected=f"a value that satisfies {asked}",
                actual=f"{_excerpt(value)} of shape {tuple(value.shape)}, loaded under {stored}",
                fix=f"load a file of this program, or let it begin anew by del store['{name}']",
            )
        )


def _same(name: str, one: Constraint, other: Constraint) -> bool:
    if one is other:
        return True
    try:
        return bool(to_text(one, name) == to_text(other, name))
    except ValueError:  # a constraint of the user's own: the value is looked at
        return False


def _satisfies(value: torch.Tensor, constraint: Constraint) -> bool:
    try:
        return bool(constraint.check(value).all())
    except (IndexError, RuntimeError):  # too few dimensions for a constraint on vectors or matrices
        return False


def _excerpt(value: torch.Tensor) -> str:
    text = str(value.detach())
    return text if len(text) <= 200 else text[:200] + " …"
