"""Bind the parameters of an optimiser to pure update rules, and carry its state over and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ember.optim.group import Group, same
from ember.optim.rules import Rule, State, rule_for


@dataclass(frozen=True)
class _Member:
    """One parameter: what updates it, and where the optimiser keeps its state."""

    leaf: Tensor
    kept: dict[str, Any]
    group: Group
    options: dict[str, Any]
    clip: dict[str, Any]
    rule: Rule
    keys: tuple[str, ...]  # of its state


class FunctionalOptimizer:
    """The update of an optimiser as a function of tensors: parameters, gradients, states, learning rates.

    States and learning rates are flat lists; learning rates are apart from the other options, since schedules
    change them.
    """

    def __init__(self, members: Sequence[_Member]) -> None:
        self._members = tuple(members)
        self._places = [(member.kept, key) for member in members for key in member.keys]
        # A group's list of parameters is a new one when a parameter leaves it.
        self._options = [
            (group, group.params, group.options, rate)
            for group, rate in {member.group: member.rule.rate for member in members}.items()
        ]

    def state(self) -> list[Tensor]:
        """Return the present state of all parameters: the optimiser's own tensors where it keeps tensors."""
        return [
            value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)
            for value in (kept[key] for kept, key in self._places)
        ]

    def rates(self) -> list[float]:
        """Return the learning rate of each parameter."""
        return [float(member.group.optimizer.param_groups[0][member.rule.rate]) for member in self._members]

    def is_current(self) -> bool:
        """Whether groups, options except learning rates, and places of states are those that were bound."""
        for group, params, options, rate in self._options:
            if group.params is not params:
                return False
            for key, value in group.optimizer.param_groups[0].items():
                if (
                    key not in ("params", rate)
                    and value is not options[key]
                    and not same(value, options[key])
                ):
                    return False
        return all(
            member.group.optimizer.state.get(member.leaf, member.kept) is member.kept
            for member in self._members
        )

    def update(
        self,
        params: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        state: Sequence[Tensor],
        rates: Sequence[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the next parameters and states; a parameter without gradient stays as it is."""
        following: list[Tensor] = []
        states: list[Tensor] = []
        remaining = iter(state)
        for member, param, gradient, rate in zip(self._members, params, gradients, rates, strict=True):
            before: State = {key: next(remaining) for key in member.keys}
            after = before
            if gradient is not None:
                exact = {
                    key: each.to(torch.float64) if key == "step" else each for key, each in before.items()
                }
                gradient = clipped(gradient, member.clip)
                param, after = member.rule.update(param, gradient, exact, member.options, rate)
            following.append(param.to(member.leaf.dtype))
            states.extend(after[key].to(before[key].dtype) for key in member.keys)
        return following, states

    def store(self, state: Sequence[Tensor]) -> None:
        """Write back the states that the optimiser does not keep in tensors."""
        for (kept, key), value in zip(self._places, state, strict=True):
            if not isinstance(kept[key], Tensor):
                kept[key] = type(kept[key])(value.item())


def bind(
    leaves: Sequence[Tensor], memberships: Sequence[tuple[Group, dict[str, Any]]]
) -> FunctionalOptimizer | None:
    """Return the update of some parameters, or None if one of them has no rule.

    :param leaves: the parameters, all of which have been updated before.
    :param memberships: the group of each, and how its gradient is clipped.
    """
    members = []
    for leaf, (group, clip) in zip(leaves, memberships, strict=True):
        rule = rule_for(group.optimizer, group.options)
        if rule is None:
            return None
        kept = group.optimizer.state.get(leaf, {})
        keys = tuple(key for key, value in kept.items() if value is not None)
        members.append(_Member(leaf, kept, group, group.options, clip, rule, keys))
    return FunctionalOptimizer(members)


def clipped(gradient: Tensor, clip: dict[str, Any]) -> Tensor:
    """Return a gradient with its norm and its elements bounded, as ``clip_args`` say."""
    if "clip_norm" in clip:
        gradient = gradient * (clip["clip_norm"] / (gradient.norm() + 1e-6)).clamp(max=1.0)
    if "clip_value" in clip:
        gradient = gradient.clamp(-clip["clip_value"], clip["clip_value"])
    return gradient
