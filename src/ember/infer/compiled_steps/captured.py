"""Be the base of steps that a captured program takes: what it stands for, and whether it still does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from ember import settings
from ember.engine.recording.refusal import NotCapturable
from ember.engine.surroundings import Surroundings
from ember.infer.compiled_steps.arguments import Arguments
from ember.params import get_param_store

Captured = TypeVar("Captured")
Loss = Callable[..., Any]


class CapturedSteps(ABC):
    """Steps of one loss on one set of parameters, for arguments of one kind.

    :param loss_and_grads: called with the arguments; returns the loss and adds gradients to the parameters.
    :param leaves: the parameters of a step.
    :param arguments: a model's arguments of this kind.
    :param reachable: what the loss may depend on besides: model, guide, objective.
    :raises NotCapturable: if it depends on what cannot be watched.
    """

    draws_from_seed = True  # and not from torch's generator

    def __init__(
        self, loss_and_grads: Loss, leaves: Sequence[Tensor], arguments: Arguments, reachable: Sequence[Any]
    ) -> None:
        if any(tensor.requires_grad for tensor in arguments.tensors):
            raise NotCapturable("an argument requires a gradient")
        if not all(map(_is_plain, leaves)):
            raise NotCapturable("a parameter has hooks, which see the gradient of each step, or is fixed")
        if len({id(leaf) for leaf in leaves}) != len(leaves):
            raise NotCapturable("a parameter has two names")
        self._loss_and_grads = loss_and_grads
        self._leaves = list(leaves)
        self._arguments = arguments
        # All that is in the store, as a model may read there what no statement of its own names.
        self._named = list(get_param_store().named_parameters())
        apart = [*leaves, *arguments.tensors, *(leaf.grad for leaf in leaves if leaf.grad is not None)]
        others = [leaf for _, leaf in self._named]
        self._surroundings = Surroundings([*reachable, *arguments.rest, *others], apart)

    def _captured(self, capture: Callable[[Loss], Captured]) -> Captured:
        """Return what ``capture`` makes of the loss as a function of the arguments' tensors.

        :raises NotCapturable: if it does what a program cannot say.
        """

        def loss(*data: Tensor) -> Any:
            args, kwargs = self._arguments.with_tensors(data)
            return self._loss_and_grads(*args, **kwargs)

        # Plates write on parameters which part of them a minibatch touches.
        marks = [dict(getattr(leaf, "_pyro_subsample", {})) for leaf in self._leaves]
        try:
            with settings.validation_enabled(False):
                captured = capture(loss)
        finally:
            for leaf, mark in zip(self._leaves, marks, strict=True):
                if hasattr(leaf, "_pyro_subsample"):
                    leaf._pyro_subsample = mark
            changed = self._surroundings.change()
            self._surroundings.restore()
        if changed is not None:
            raise NotCapturable(f"a step changes the Python value '{changed}'")
        return captured

    def has_current_parameters(self) -> bool:
        """Whether the parameter store still has the leaves that it had."""
        store = get_param_store()
        return all(store.leaf(name) is leaf for name, leaf in self._named)

    def change(self) -> str | None:
        """Return what is different now from what the program knows, or None."""
        if not all(map(_is_plain, self._leaves)):
            return "parameters with hooks, or that are fixed now"
        changed = self._surroundings.change()
        return None if changed is None else f"another value of '{changed}'"

    @abstractmethod
    def take(self, num_steps: int, arguments: Arguments, seed: int, first: int = 0) -> tuple[list[Any], bool]:
        """Take up to so many steps.

        :param seed: a non-negative number below 2**63; step n draws from the stream ``fold_in(key(seed), n)``
            if it :attr:`draws_from_seed`.
        :param first: number of the first step.
        :returns: the losses of the steps taken, and whether all of them and their gradients were finite; a
            step that is not is the last, and changes nothing.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """Stop after the present step; from any thread."""


def _is_plain(leaf: Tensor) -> bool:
    hooks: Any = leaf._backward_hooks or getattr(leaf, "_post_accumulate_grad_hooks", None)
    return leaf.requires_grad and not hooks
