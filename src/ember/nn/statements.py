"""Read a module's own parameters as statements of the language."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions.constraints import Constraint

from ember.distributions import constraints
from ember.distributions.constraints import transform_to
from ember.params.param_store import LeafReference
from ember.poutine.runtime import apply_stack, handler_stack, new_message


def constrain(leaf: Any, constraint: Constraint) -> Tensor:
    """Return the value that an unconstrained leaf stands for."""
    return leaf if constraint is constraints.real else transform_to(constraint)(leaf)


def local_param(fullname: str, leaf: Any, constraint: Constraint, event_dim: int | None) -> Tensor:
    """Run a ``param`` statement whose value lives in a module, not in the store."""

    def read(*args: Any, **kwargs: Any) -> Tensor:
        value: Any = constrain(leaf, constraint)
        # A view keeps the attribute off the module's own parameter.
        value = value.view_as(value) if value is leaf else value
        value.unconstrained = LeafReference(leaf)
        return value

    if not handler_stack():
        return read()
    kwargs = {"constraint": constraint, "event_dim": event_dim}
    return apply_stack(new_message("param", fullname, read, (fullname,), kwargs))["value"]
