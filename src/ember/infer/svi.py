"""Fit a guide and a model's parameters by stochastic gradient steps."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ember import poutine, settings
from ember.errors import message
from ember.infer.compiled_steps import EAGER_STEPS, FIRST_STEPS, Arguments, Execution, SwitchingSteps
from ember.infer.objectives.elbo import ELBO
from ember.infer.param_sites import SiteCounter, unconstrained_params
from ember.infer.seed import draw_seed
from ember.infer.training import (
    Alone,
    Batches,
    Constant,
    Options,
    Plateau,
    StepInfo,
    Steps,
    SVIResult,
    Workers,
    train,
)
from ember.infer.training.steps import EagerSteps, is_finite


class SVI:
    """Stochastic variational inference: one gradient step for each call of :meth:`step`.

    :param model: a model.
    :param guide: its guide, with the same arguments.
    :param optim: an optimiser of :mod:`ember.optim`.
    :param loss: an :class:`~ember.infer.objectives.elbo.ELBO`, or a function
        ``(model, guide, *args, **kwargs)`` that returns a differentiable scalar tensor.
    :param loss_and_grads: a function of the same arguments that returns the loss and adds gradients to the
        parameters; by default that of ``loss``.
    :param execution: ``"auto"``, ``"native"``, ``"inductor"`` or ``"eager"``; by default the setting of that
        name. Machine code takes the same steps as eager execution, with other random numbers; torch's
        kernels, which take them where networks are large, and what torch.compile makes of them for
        ``"inductor"``, draw the same ones.
    :raises TypeError: for an optimiser that is not ember's, or an objective's class.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: Callable[[Iterable[Tensor]], Any],
        loss: ELBO | Callable[..., Any],
        loss_and_grads: Callable[..., Any] | None = None,
        *,
        execution: str | None = None,
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
        if isinstance(loss, type):
            raise TypeError(
                message(
                    "SVI needs an objective, not its class",
                    expected=f"{loss.__name__}()",
                    actual=loss.__name__,
                    fix="add the parentheses",
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
        self._objective = loss
        self._policy = execution
        self._parts: tuple[Any, ...] = ()
        self._sites = 0  # of the last eager step
        settings.check(**({} if execution is None else {"execution": execution}))

    @property
    def _execution(self) -> Execution:
        """How steps run; begun anew when the model, the guide or another part was exchanged."""
        parts = (self.model, self.guide, self.optim, self.loss_and_grads)
        if len(self._parts) != len(parts) or any(map(operator.is_not, parts, self._parts)):
            loss = self._objective
            self._parts = parts
            self._present_execution = Execution(
                self._loss_with_gradients,
                self.optim,
                (self.model, self.guide, self.loss_and_grads),
                self._policy,
                FIRST_STEPS if isinstance(loss, ELBO) and loss.compiled else EAGER_STEPS,
                getattr(loss, "baselines", None),
            )
        return self._present_execution

    def _loss_with_gradients(self, *args: Any, **kwargs: Any) -> Any:
        return self.loss_and_grads(self.model, self.guide, *args, **kwargs)

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss without gradients; arguments are the model's."""
        with torch.no_grad():
            return _number(self.loss(self.model, self.guide, *args, **kwargs))

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take one gradient step and return the loss; arguments are the model's.

        The parameters whose sites ran in this step are given to the optimiser, then their gradients cleared.
        If the loss is not finite they stay as they are, and a warning names the site.
        """
        arguments = Arguments(args, kwargs)
        captured = self._execution.captured(arguments)
        if captured is not None:
            losses, fine = captured.take(1, arguments, draw_seed() if captured.draws_from_seed else 0)
            if not fine:
                self._explain_loss(losses[0], args, kwargs)
            return losses[0]
        loss, params = self._gradients(args, kwargs)
        if is_finite(loss):
            self._update(params)
        for param in params:
            param.grad = None
        return loss

    def _explain_loss(self, loss: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Warn about a loss of machine code that is not finite, through the eager loss if it shows why."""
        with torch.random.fork_rng():
            if is_finite(self.evaluate_loss(*args, **kwargs)):
                warnings.warn(
                    message(
                        f"Encountered {loss}: loss, in a step that machine code took",
                        fix="SVI(..., execution='eager') names the site when it happens again",
                    ),
                    UserWarning,
                    stacklevel=3,
                )

    def _gradients(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Tensor]]:
        """Return the loss and the parameters whose sites ran, which then carry its gradient."""
        with poutine.trace(param_only=True) as capture, SiteCounter() as sites:
            loss = self.loss_and_grads(self.model, self.guide, *args, **kwargs)
        self._sites = sites.count
        return _number(loss), unconstrained_params(capture.trace)

    def _update(self, params: list[Tensor]) -> None:
        """Give the parameters to the optimiser, and clear their gradients."""
        self.optim(params)
        for param in params:
            param.grad = None
        self._execution.note(params, self._sites)

    def _steps(self) -> Steps:
        """Return what takes the steps of a run."""
        return SwitchingSteps(self, self._execution)

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
        :raises TypeError: if ``num_steps`` is no number of steps, or ``batches`` cannot be gone through.
        :raises NotFiniteError: naming the site or parameter.
        :raises DataError: naming the batch, for sources that end early or change.
        :raises ValueError: for options that contradict each other, or a checkpoint of another program.
        :raises WorkerError: with its rank, if another process failed or died.
        """
        if not isinstance(num_steps, int) or isinstance(num_steps, bool) or num_steps < 0:
            raise TypeError(
                message(
                    "SVI.run takes the number of steps first, then the model's arguments",
                    expected="svi.run(1000, x, y)",
                    actual=f"a first argument {num_steps!r}",
                )
            )
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
        if batches is None:
            feed: Constant | Batches = Constant(args, kwargs)
        else:
            feed = Batches(batches, args, kwargs)
        team = Workers() if data_parallel else Alone()
        steps = EagerSteps(self, team) if data_parallel else self._steps()
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


def _number(loss: Any) -> Any:
    """Turn scalar tensors into floats, also inside the tuples that some losses return."""
    if isinstance(loss, (tuple, list)):
        return type(loss)(_number(each) for each in loss)
    return loss.item() if isinstance(loss, Tensor) else loss
