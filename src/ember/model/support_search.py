"""Find how each latent site maps to unconstrained space, and which supports depend on other sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from ember.model.inspection import iterate_tensors, support_of
from ember.model.layout import transform_of
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message


class Found(NamedTuple):
    """What an execution says about one latent site."""

    support: Any
    transform: Transform | None  # None for the identity
    unconstrained: Tensor


def find_supports(
    run: Callable[[Messenger], None], values: dict[str, Tensor], transforms: dict[str, Any]
) -> tuple[dict[str, Found], set[str]]:
    """Execute a model twice, at ``values`` and close by.

    :param run: executes the model under a handler.
    :param values: constrained values of the latent sites.
    :param transforms: maps from supports to unconstrained space that are given and not looked for.
    :returns: what was found by site, and the names of the sites whose support depends on other sites.
    """
    executions = []
    for shift in (0.0, 1e-4):
        handler = _Supports(values, transforms, shift)
        run(handler)
        executions.append(handler.found)
    first, second = executions
    dynamic = {
        name
        for name, found in first.items()
        if name not in transforms and not _same(found.support, second[name].support)
    }
    return first, dynamic


class _Supports(Messenger):
    """Note each latent site's support and transform, at values moved by ``shift`` in unconstrained space."""

    def __init__(self, values: dict[str, Tensor], transforms: dict[str, Any], shift: float) -> None:
        self.values = values
        self.transforms = transforms
        self.shift = shift
        self.found: dict[str, Found] = {}

    def _pyro_sample(self, msg: Message) -> None:
        name = str(msg["name"])
        if name not in self.values:
            return
        support = support_of(msg["fn"])
        given = self.transforms.get(name)
        transform = transform_of(support, name) if given is None else given.inv
        value = self.values[name].to(torch.float64)
        unconstrained = value if transform is None else transform.inv(value)
        # With a gradient, so that bounds that depend on other sites betray themselves.
        unconstrained = (unconstrained.detach() + self.shift).requires_grad_(True)
        self.found[name] = Found(support, transform, unconstrained.detach())
        msg["value"] = unconstrained if transform is None else transform(unconstrained)


def _same(first: Any, second: Any) -> bool:
    """Say whether two supports are one constant set."""
    if type(first) is not type(second):
        return False
    for one, other in zip(iterate_tensors(first), iterate_tensors(second), strict=True):
        if isinstance(one, Tensor):
            if one.requires_grad or not torch.equal(one, other):
                return False
        elif one != other:
            return False
    return True
