"""Optimise a dict of parameters by their loss, with different optimisers for parts of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ember.errors import message
from ember.ops.newton import newton_step
from ember.optim.optim import PyroOptim

Params = dict[str, Tensor]


class MultiOptimizer:
    """Base of optimisers of several parameters jointly; subclasses define one of the two methods."""

    def step(self, loss: Tensor, params: Params) -> None:
        """Update the parameters in place.

        :param loss: a differentiable scalar.
        :param params: leaf tensors by name.
        """
        new = self.get_step(loss, params)
        with torch.no_grad():
            for name, value in params.items():
                value.copy_(new[name])

    def get_step(self, loss: Tensor, params: Params) -> Params:
        """Return the updated values, which may carry gradients, and leave the parameters as they are.

        :param loss: a differentiable scalar.
        :param params: tensors by name.
        """
        raise TypeError(f"{type(self).__name__} updates in place only: use step")


def _set_gradients(loss: Tensor, params: Params) -> list[Tensor]:
    values = list(params.values())
    for value, grad in zip(
        values, torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True), strict=True
    ):
        value.grad = torch.zeros_like(value) if grad is None else grad
    return values


class PyroMultiOptimizer(MultiOptimizer):
    """An optimiser of :mod:`ember.optim` as a part."""

    def __init__(self, optim: PyroOptim) -> None:
        if not isinstance(optim, PyroOptim):
            raise TypeError(f"PyroMultiOptimizer takes an optimiser of ember.optim, got {optim!r}")
        self.optim = optim

    def step(self, loss: Tensor, params: Params) -> None:
        """Update the parameters in place."""
        values = _set_gradients(loss, params)
        self.optim(values)
        for value in values:
            value.grad = None


class TorchMultiOptimizer(PyroMultiOptimizer):
    """A class of torch optimisers, with its options, as a part."""

    def __init__(self, optim_constructor: Callable[..., torch.optim.Optimizer], optim_args: Any) -> None:
        super().__init__(PyroOptim(optim_constructor, optim_args))


class MixedMultiOptimizer(MultiOptimizer):
    """Different optimisers for parts of the parameters, applied in order.

    :param parts: pairs of parameter names and a :class:`MultiOptimizer` (or an optimiser of
        :mod:`ember.optim`).
    :raises ValueError: if two parts have a name in common.
    """

    def __init__(self, parts: Iterable[tuple[Iterable[str], Any]]) -> None:
        self.parts: list[tuple[list[str], MultiOptimizer]] = []
        seen: set[str] = set()
        for names, optim in parts:
            own = list(names)
            if seen & set(own):
                raise ValueError(
                    message(
                        "two parts of a MixedMultiOptimizer update the same parameter",
                        expected="each name in one part",
                        actual=", ".join(sorted(seen & set(own))),
                    )
                )
            seen.update(own)
            self.parts.append((own, PyroMultiOptimizer(optim) if isinstance(optim, PyroOptim) else optim))

    def _split(self, params: Params) -> list[tuple[Params, MultiOptimizer]]:
        known = {name for names, _ in self.parts for name in names}
        if not set(params) <= known:
            raise ValueError(f"no part of the MixedMultiOptimizer updates {sorted(set(params) - known)}")
        return [
            ({name: params[name] for name in names if name in params}, part) for names, part in self.parts
        ]

    def step(self, loss: Tensor, params: Params) -> None:
        """Update the parameters in place."""
        for own, part in self._split(params):
            if own:
                part.step(loss, own)

    def get_step(self, loss: Tensor, params: Params) -> Params:
        """Return the updated values."""
        new: Params = {}
        for own, part in self._split(params):
            if own:
                new.update(part.get_step(loss, own))
        return new


class Newton(MultiOptimizer):
    """Newton steps for parameters of shape ``batch + (D,)`` with D in 1, 2, 3, independent of each other.

    :param trust_radii: greatest lengths of steps, by parameter name.
    """

    def __init__(self, trust_radii: dict[str, float] | None = None) -> None:
        self.trust_radii = trust_radii or {}

    def get_step(self, loss: Tensor, params: Params) -> Params:
        """Return the updated values, with gradients to what the loss depends on besides the parameters."""
        return {
            name: newton_step(loss, value, self.trust_radii.get(name))[0] for name, value in params.items()
        }
