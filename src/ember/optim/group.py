"""Keep the parameters that share all options in one torch optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Group:
    """One torch optimiser, its scheduler if any, and the parameters that it updates.

    A torch optimiser updates many parameters faster than many optimisers one each, and keeps its state by
    parameter, so that parameters which come and go do not disturb each other.

    :param optimizer: a torch optimiser with one parameter group.
    :param scheduler: a torch scheduler over it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, scheduler: Any = None) -> None:
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.age = 0  # steps of the scheduler

    @property
    def params(self) -> list[Tensor]:
        """The parameters, in order of arrival."""
        return self.optimizer.param_groups[0]["params"]

    @property
    def options(self) -> dict[str, Any]:
        """The options in force, as schedulers have changed them."""
        return {key: value for key, value in self.optimizer.param_groups[0].items() if key != "params"}

    def accepts(self, options: dict[str, Any], schedule: dict[str, Any] | None) -> bool:
        """Whether a parameter with these options, at this point of its schedule, belongs here."""
        return same(self.options, options) and same(self.schedule(), schedule)

    def schedule(self) -> dict[str, Any] | None:
        """Return the scheduler's state, or None without scheduler."""
        return None if self.scheduler is None else {**self.scheduler.state_dict(), "age": self.age}

    def remove(self, param: Tensor) -> None:
        """Forget a parameter and its state."""
        self.optimizer.param_groups[0]["params"] = [each for each in self.params if each is not param]
        self.optimizer.state.pop(param, None)

    def state_of(self, param: Tensor) -> dict[str, Any]:
        """Return what torch's ``state_dict`` of an optimiser for this parameter alone would be."""
        state: dict[str, Any] = {
            "state": {0: dict(self.optimizer.state[param])} if param in self.optimizer.state else {},
            "param_groups": [{**self.options, "params": [0]}],
        }
        if self.scheduler is not None:
            state["scheduler"] = self.schedule()
        return state

    def restore(self, param: Tensor, state: dict[str, Any]) -> None:
        """Take over the state of one parameter; tensors are copied to its device."""
        saved = state["state"].get(0)
        if saved is not None:
            self.optimizer.state[param] = {
                key: value.detach().clone().to(param.device) if isinstance(value, Tensor) else value
                for key, value in saved.items()
            }

    def update(self, given: list[Tensor]) -> None:
        """Step the optimiser for the given members only."""
        if len(given) == len(self.params):
            self.optimizer.step()
            return
        kept = set(map(id, given))
        # torch passes over parameters without gradient.
        absent = [(param, param.grad) for param in self.params if id(param) not in kept]
        for param, _ in absent:
            param.grad = None
        try:
            self.optimizer.step()
        finally:
            for param, grad in absent:
                param.grad = grad


def same(one: Any, other: Any) -> bool:
    """Compare nested options; tensors are equal only if they are one object or equal elementwise."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return one is other or (
            isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
        )
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one is other or one == other)


SchedulerMaker = Callable[[torch.optim.Optimizer], Any]
