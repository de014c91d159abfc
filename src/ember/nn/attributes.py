"""Declare attributes of modules that are parameters with constraints, or random values with priors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributions.constraints import Constraint

from ember.distributions import constraints
from ember.errors import message


class PyroParam:
    """An attribute that is a learnable value inside a constraint.

    Assign it in a module, or decorate a method that computes the initial value from ``self``::

        self.scale = PyroParam(torch.ones(3), constraint=constraints.positive)

        @PyroParam(constraint=constraints.positive)
        def scale(self):
            return torch.ones(self.size)

    :param init_value: a tensor inside the constraint, or a function that makes it.
    :param constraint: the set in which the value lies.
    :param event_dim: number of rightmost dimensions that subsampling plates leave alone; by default all.
    """

    def __init__(
        self,
        init_value: Any = None,
        constraint: Constraint = constraints.real,
        event_dim: int | None = None,
    ) -> None:
        self.init_value = init_value
        self.constraint = constraint
        self.event_dim = event_dim
        self._name = getattr(init_value, "__name__", None)

    def __call__(self, init_value: Callable[[Any], Any]) -> PyroParam:
        """Decorate a method (the form with arguments)."""
        return PyroParam(init_value, self.constraint, self.event_dim)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        own = _in_place_of(instance, self._name)
        if own is not None:
            return own
        if self._name not in instance._pyro_params:
            # Straight to the registration: a plain assignment would find this class attribute first.
            instance._pyro_add_param(
                self._name, PyroParam(self.init_value(instance), self.constraint, self.event_dim)
            )
        return instance.__getattr__(self._name)


class PyroSample:
    """An attribute that is drawn anew in each call of the module, at a site of its full name.

    Assign it in a module, or decorate a method that makes the prior from ``self``::

        self.weight = PyroSample(dist.Normal(0., 1.).expand([3]).to_event(1))

        @PyroSample
        def weight(self):
            return dist.Normal(0., self.scale)

    :param prior: a distribution, or a function of the module that returns one (or a value, recorded as
        deterministic).
    """

    def __init__(self, prior: Any) -> None:
        self.prior = prior
        self._name = getattr(prior, "__name__", None)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        own = _in_place_of(instance, self._name)
        if own is not None:
            return own
        # None stands for the class's own prior: a decorated function cannot be pickled by its name.
        instance._pyro_samples.setdefault(self._name, None)
        return instance.__getattr__(self._name)


def _in_place_of(instance: Any, name: str | None) -> Any:
    """Return the parameter that a torch layer's constructor made under the name of a decorated method.

    It is there until the first call, since constructors go on to initialise it; then it is dropped.
    """
    own = instance._parameters.get(name)
    if own is not None and instance._pyro_context.depth:
        del instance._parameters[name]
        return None
    return own


def check_value(fullname: str, constraint: Constraint, value: Any) -> None:
    """Refuse a value of a parameter that is outside its constraint.

    :raises ValueError: naming the parameter.
    """
    if not bool(torch.as_tensor(constraint.check(value)).all()):
        raise ValueError(
            message(
                f"the value of parameter '{fullname}' violates its constraint",
                site=fullname,
                expected=f"a value that satisfies {constraint}",
                fix="choose a value inside the constraint, or another constraint",
            )
        )
