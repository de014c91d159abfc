"""Fit a guide and a model's parameters by stochastic gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.errors import message
from ember.infer.elbo import ELBO


class SVI:
    """Stochastic variational inference: one gradient step for each call of :meth:`step`.

    :param model: a model.
    :param guide: its guide, with the same arguments.
    :param optim: an optimiser of :mod:`ember.optim`.
    :param loss: an :class:`~ember.infer.elbo.ELBO`, or a function ``(model, guide, *args, **kwargs)`` that
        returns a differentiable scalar tensor.
    :param loss_and_grads: a function of the same arguments that returns the loss and adds gradients to the
        parameters; by default that of ``loss``.
    :raises TypeError: for an optimiser that is not ember's.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: Callable[[Iterable[Tensor]], Any],
        loss: ELBO | Callable[..., Any],
        loss_and_grads: Callable[..., Any] | None = None,
    ) -> None:
        if not callable(optim) or isinstance(optim, (type, torch.optim.Optimizer)):
            raise TypeError(
                message(
                    "SVI needs an optimiser of ember.optim",
                    expected="e.g. ember.optim.Adam({'lr': 0.01})",
                    actual=repr(optim),
                    fix="use the class of the same name in ember.optim",
                )
            )
        self.model = model
        self.guide = guide
        self.optim = optim
        if isinstance(loss, ELBO):
            self.loss: Callable[..., Any] = loss.loss
            self.loss_and_grads: Callable[..., Any] = loss_and_grads or loss.loss_and_grads
        else:
            self.loss = loss
            self.loss_and_grads = loss_and_grads or _Backward(loss)

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss without gradients; arguments are the model's."""
        with torch.no_grad():
            return _number(self.loss(self.model, self.guide, *args, **kwargs))

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take one gradient step and return the loss; arguments are the model's.

        The parameters whose sites ran in this step are given to the optimiser, then their gradients cleared.
        """
        with poutine.trace(param_only=True) as capture:
            loss = self.loss_and_grads(self.model, self.guide, *args, **kwargs)
        params = unconstrained_params(capture.trace)
        self.optim(params)
        for param in params:
            param.grad = None
        return _number(loss)


class _Backward:
    """Add the gradients of a differentiable loss to the parameters."""

    def __init__(self, loss: Callable[..., Any]) -> None:
        self.loss = loss

    def __call__(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        loss = self.loss(model, guide, *args, **kwargs)
        if isinstance(loss, Tensor) and loss.requires_grad:
            loss.backward()
        return loss


def unconstrained_params(trace: poutine.Trace) -> list[Tensor]:
    """Return the leaves behind the param sites of a trace, each once, in order."""
    leaves: dict[int, Tensor] = {}
    for site in trace.nodes.values():
        if site["type"] == "param":
            leaf = site["value"].unconstrained()
            leaves[id(leaf)] = leaf
    return list(leaves.values())


def _number(loss: Any) -> Any:
    """Turn scalar tensors into floats, also inside the tuples that some losses return."""
    if isinstance(loss, (tuple, list)):
        return type(loss)(_number(each) for each in loss)
    return loss.item() if isinstance(loss, Tensor) else loss
