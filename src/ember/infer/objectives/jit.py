"""Compile the losses of evidence lower bounds by ``torch.jit.trace``."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ember.engine.control import capturing, number
from ember.engine.policy import say_once
from ember.errors import MissingParameterError, is_internal
from ember.infer.objectives.elbo import ELBO
from ember.infer.objectives.enumerated import TraceEnum_ELBO
from ember.infer.objectives.graph import TraceGraph_ELBO
from ember.infer.objectives.mean_field import TraceMeanField_ELBO
from ember.infer.objectives.trace import Trace_ELBO
from ember.ops.jit import CompiledFunction

_TENSOR = object()  # stands among the constants of a program where a tensor is


class CompiledLoss(ELBO):
    """Base of objectives whose loss is compiled at the first call for each model, guide and set of shapes.

    Tensors among the arguments, also inside lists and dicts and given by keyword, are inputs of the compiled
    program, which runs for other data of these shapes; other values are its constants, and new ones compile
    again. A loss that cannot be compiled runs eagerly, and a log message says why: for instance if the model
    branches on what it draws or looks at the numbers in its data.

    :param ignore_jit_warnings: compile also where the tracer warns that it fixes what may change.
    :param jit_options: options of ``torch.jit.trace``.
    """

    compiled = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._programs: dict[tuple[Any, Any], CompiledFunction | None] = {}  # None: not to be compiled

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the negative bound, without gradients."""
        with torch.no_grad():
            return number(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the negative bound and add its gradient to the parameters' ``grad``."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return number(loss)

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the negative bound as a scalar tensor whose gradient is the estimator's."""
        if capturing():  # it becomes part of a larger program
            return self.eager_loss(model, guide, *args, **kwargs)
        leaves, structure = pytree.tree_flatten((args, kwargs))
        tensors = [each for each in leaves if isinstance(each, Tensor)]
        constants = tuple(_TENSOR if isinstance(each, Tensor) else each for each in leaves)
        pair = (model, guide)
        for _ in range(2):
            if pair not in self._programs:
                self._programs[pair] = _Program(self, model, guide)
            program = self._programs[pair]
            if program is None:
                break
            try:
                loss: Tensor = program(*tensors, constants=constants, structure=structure)
            except _NotCompilable as error:
                say_once(f"{type(self).__name__} runs eagerly: {error}")
                self._programs[pair] = None
            except MissingParameterError:  # the store was cleared
                del self._programs[pair]
            else:
                if not math.isfinite(loss.item()):
                    self.eager_loss(model, guide, *args, **kwargs)  # which names the site
                return loss
        return self.eager_loss(model, guide, *args, **kwargs)

    def eager_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return what :meth:`differentiable_loss` does, uncompiled."""
        return super().differentiable_loss(model, guide, *args, **kwargs)


class _NotCompilable(Exception):
    """A loss does what a traced program cannot say."""


class _Program(CompiledFunction):
    """The compiled loss of an objective for a model and a guide."""

    def __init__(self, elbo: CompiledLoss, model: Callable[..., Any], guide: Callable[..., Any]) -> None:
        reference = weakref.ref(elbo)  # so that an objective that nobody uses is freed

        def loss(*tensors: Tensor, constants: tuple[Any, ...], structure: Any) -> Tensor:
            given = iter(tensors)
            leaves = [next(given) if each is _TENSOR else each for each in constants]
            args, kwargs = pytree.tree_unflatten(leaves, structure)
            owner: Any = reference()
            result: Tensor = owner.eager_loss(model, guide, *args, **kwargs)
            return result

        super().__init__(loss, elbo.ignore_jit_warnings, elbo.jit_options)

    def _compile(self, leaves: list[Tensor], structure: Any, kwargs: dict[str, Any]) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                program = super()._compile(leaves, structure, kwargs)
            except (RuntimeError, NotImplementedError, MissingParameterError) as error:
                # If the model itself is wrong, it says so again when run eagerly.
                raise _NotCompilable(str(error).strip().splitlines()[0]) from error
        for each in caught:
            if not issubclass(each.category, torch.jit.TracerWarning):
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
            elif not self.ignore_warnings and _fixes_a_value(each):
                raise _NotCompilable(f"the program looks at numbers, at {each.filename}:{each.lineno}")
        return program


def _fixes_a_value(warning: warnings.WarningMessage) -> bool:
    """Whether the tracer warns of user code that turns a tensor into a number: perhaps to branch on it."""
    # ember and torch look at sizes while a loss is traced, never at draws.
    return not is_internal(warning.filename) and "Converting a tensor to a Python" in str(warning.message)


class JitTrace_ELBO(CompiledLoss, Trace_ELBO):
    """:class:`~ember.infer.Trace_ELBO`, compiled as :class:`CompiledLoss` says."""


class JitTraceGraph_ELBO(CompiledLoss, TraceGraph_ELBO):
    """:class:`~ember.infer.TraceGraph_ELBO`, compiled as :class:`CompiledLoss` says."""


class JitTraceEnum_ELBO(CompiledLoss, TraceEnum_ELBO):
    """:class:`~ember.infer.TraceEnum_ELBO`, compiled as :class:`CompiledLoss` says."""


class JitTraceMeanField_ELBO(CompiledLoss, TraceMeanField_ELBO):
    """:class:`~ember.infer.TraceMeanField_ELBO`, compiled as :class:`CompiledLoss` says."""
