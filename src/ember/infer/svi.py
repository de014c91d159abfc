"""Fit a guide and a model's parameters by stochastic gradient steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.errors import message
from ember.infer.elbo import ELBO
from ember.infer.training import (
    Alone,
    Batches,
    Constant,
    EagerSteps,
    Options,
    Plateau,
    StepInfo,
    Steps,
    SVIResult,
    Workers,
    train,
)


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
        self.result: SVIResult | None = None  # of the last run
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
        loss, params = self._gradients(args, kwargs)
        self._update(params)
        return loss

    def _gradients(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Tensor]]:
        """Return the loss and the parameters whose sites ran, which then carry its gradient."""
        with poutine.trace(param_only=True) as capture:
            loss = self.loss_and_grads(self.model, self.guide, *args, **kwargs)
        return _number(loss), unconstrained_params(capture.trace)

    def _update(self, params: list[Tensor]) -> None:
        """Give the parameters to the optimiser, and clear their gradients."""
        self.optim(params)
        for param in params:
            param.grad = None

    def _steps(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps:
        """Return what takes the steps of a run with these arguments."""
        return EagerSteps(self)

    def run(
        self,
        num_steps: int,
        *args: Any,
        batches: Any = None,
        disable_progbar: bool = False,
        seconds: float | None = None,
        plateau: Plateau | bool = False,
        callback: Callable[[StepInfo], Any] | None = None,
        callback_every: int = 1,
        checkpoint: Any = None,
        checkpoint_every: int | None = None,
        resume: bool = False,
        data_parallel: bool = False,
        **kwargs: Any,
    ) -> SVIResult:
        """Take ``num_steps`` gradient steps; the other arguments are the model's.

        A model's argument that has the name of an option below is given by position. Ctrl-C ends the run
        after the present step, and what was reached is kept. A step whose loss or gradient is not finite is
        refused, and the parameters stay as they were before it. The result of a run that an error ended
        is kept in :attr:`result`.

        :param batches: an iterable of model arguments, one batch for each step, gone through as often as need
            be: mappings give keyword arguments, tuples and lists positional ones after ``args``, anything
            else is one argument. The model scales them by a plate of the full size.
        :param disable_progbar: show no progress bar.
        :param seconds: end the run after about that time.
        :param plateau: a :class:`Plateau`, which ends the run when the loss stops falling; True for its
            defaults.
        :param callback: called with a :class:`StepInfo`; returning something true, or raising
            ``StopIteration``, ends the run. A scheduler is stepped here.
        :param callback_every: number of steps between two calls.
        :param checkpoint: a file to write the state of the run to, now and then and at its end.
        :param checkpoint_every: number of steps between two checkpoints, by default a minute's worth.
        :param resume: if the file of ``checkpoint`` exists, go on from there until ``num_steps`` are done in
            all. On the same machine the result is that of a run without break, bit for bit.
        :param data_parallel: take each step together with the other processes of ``torch.distributed``
            (started by ``torchrun``, say), which run the same program: gradients are averaged over them,
            parameters start from those of the first, each has random numbers and a part of ``batches`` of its
            own. Ctrl-C in, or an error of, one process ends the run in all.
        :raises NotFiniteError: naming the site or parameter.
        :raises DataError: naming the batch, for sources that end early or change.
        :raises ValueError: for options that contradict each other, or a checkpoint of another program.
        :raises WorkerError: with its rank, if another process failed or died.
        """
        options = Options(
            disable_progbar=disable_progbar,
            seconds=seconds,
            plateau=(Plateau() if plateau else None) if isinstance(plateau, bool) else plateau,
            callback=callback,
            callback_every=callback_every,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )
        team = Workers() if data_parallel else Alone()
        if batches is None:
            feed: Constant | Batches = Constant(args, kwargs)
        else:
            feed = Batches(batches, args, kwargs, team.rank, team.world)
        steps = EagerSteps(self, team) if data_parallel else self._steps(args, kwargs)
        self.result, error = train(self, steps, num_steps, feed, options, team)
        if error is not None:
            raise error
        return self.result


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
