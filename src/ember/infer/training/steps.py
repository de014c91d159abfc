"""Take gradient steps, one after another, and refuse those that are not finite."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ember.errors import NotFiniteError
from ember.infer.training.team import Alone, Team
from ember.params import get_param_store

if TYPE_CHECKING:
    from ember.infer.svi import SVI


class Steps(Protocol):
    """Takes gradient steps, however they are executed.

    After each :meth:`advance` the parameter store and the optimiser hold the present values.
    """

    def advance(self, num_steps: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Take up to ``num_steps`` steps with these model arguments; return the losses of those taken.

        They are of shape ``[k]``, or ``[k, parts]`` for objectives that return several losses. There are
        fewer than ``num_steps`` after :meth:`interrupt`, or if a step could not be taken; a call that can
        take none at all because of an error raises it.
        """

    def interrupt(self) -> None:
        """Stop after the present step; from any thread, and from signal handlers."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beyond parameters, optimiser and torch's generator."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave."""


class EagerSteps:
    """Steps of an :class:`~ember.infer.SVI` on torch's own kernels.

    A step whose loss or gradient is not finite is not taken: parameters, optimiser and generator stay as they
    were before it. The same holds for a step in which the model raises.

    :param team: other processes that take each step together with this one.
    """

    def __init__(self, svi: SVI, team: Team | None = None) -> None:
        self._svi = svi
        self._team = Alone() if team is None else team
        self._interrupted = False
        self._error: BaseException | None = None

    def advance(self, num_steps: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Take up to ``num_steps`` steps; see :class:`Steps`.

        :raises NotFiniteError: naming the site or parameter, if the first of them is not finite.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        losses: list[Any] = []
        while len(losses) < num_steps and not self._interrupted:
            state = torch.get_rng_state()
            try:
                losses.append(self._step(args, kwargs, state))
            except BaseException as error:
                torch.set_rng_state(state)
                _clear_gradients()
                if not losses:
                    raise
                self._error = error  # first the losses of the steps before; the next call raises it
                break
        self._interrupted = False
        return torch.tensor(losses, dtype=torch.float64)

    def _step(self, args: tuple[Any, ...], kwargs: dict[str, Any], generator: Tensor) -> Any:
        loss, params = self._svi._gradients(args, kwargs)
        if not is_finite(loss):
            torch.set_rng_state(generator)
            raise NotFiniteError(blame_loss(self._svi, args, kwargs, loss))
        loss = self._team.average(loss, params)
        if not all(map(has_finite_gradient, params)):
            raise NotFiniteError(_blame_gradients(params))
        self._svi._update(params)
        return loss

    def interrupt(self) -> None:
        """Stop after the present step."""
        self._interrupted = True

    def state(self) -> dict[str, Any]:
        """Return nothing: eager steps draw from torch's generator."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Ignore the empty state."""


def blame_loss(svi: SVI, args: tuple[Any, ...], kwargs: dict[str, Any], loss: Any) -> str:
    """Evaluate the loss once more, and say which site makes it infinite or NaN."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        svi.evaluate_loss(*args, **kwargs)
    for warning in caught:
        text = str(warning.message)
        if text.startswith("Encountered"):
            return text
    return f"Encountered a loss that is not finite: {loss}"


def has_finite_gradient(param: Tensor) -> bool:
    """Whether the gradient is finite, or there is none.

    Sums are the fastest way to see it: infinities and NaN do not cancel.
    """
    grad = param.grad
    if grad is None:
        return True
    grad = grad.coalesce().values() if grad.is_sparse else grad
    return math.isfinite(abs(grad.sum(dtype=torch.promote_types(grad.dtype, torch.float32)).item()))


def _blame_gradients(params: Sequence[Tensor]) -> str:
    store = get_param_store()
    names = [
        repr(store.param_name(param) or f"of shape {tuple(param.shape)}")
        for param in params
        if not has_finite_gradient(param)
    ]
    return (
        f"the gradient of parameter {', '.join(names)} is not finite, though the loss is\n"
        "  expected: finite gradients\n"
        "  fix: look for functions without derivative at their argument (a square root at 0, a where() whose "
        "other branch is infinite), or bound the parameter by a constraint"
    )


def is_finite(loss: Any) -> bool:
    """Return whether all numbers of a loss are finite."""
    return all(map(is_finite, loss)) if isinstance(loss, (tuple, list)) else math.isfinite(loss)


def _clear_gradients() -> None:
    for _, leaf in get_param_store().named_parameters():
        leaf.grad = None
