"""Choose whether the steps of an SVI run eagerly or as machine code, and notice when that has to change."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ember import settings
from ember.engine.lowering.errors import NotLowerable
from ember.engine.policy import ExecutionError, say_once
from ember.engine.refusal import NotCapturable
from ember.infer.compiled_steps.arguments import Arguments
from ember.infer.compiled_steps.native import LargeMatrices, NativeSteps
from ember.infer.compiled_steps.program import Memory
from ember.params import get_param_store
from ember.poutine.runtime import handler_stack

# Eager steps of one kind before compiling pays off. A number of steps and not a time, so that draws do not
# depend on how fast the machine is.
EAGER_STEPS = 30
# Where machine code is demanded: they make parameters and the optimiser's state, and validate.
FIRST_STEPS = 2
_ATTEMPTS = 4  # programs of one kind whose surroundings changed, before it stays eager
_MATRIX_WORK = 5e7  # floating point operations of a step's matrix products, from which on they dominate it
_KINDS = 8  # kinds of arguments that get programs


@dataclass
class _Kind:
    """Steps with arguments of one kind: same structure, shapes, dtypes, and values other than tensors."""

    arguments: Arguments
    taken: int = 0  # eager steps with the same parameters
    leaves: list[Tensor] = field(default_factory=list)
    native: NativeSteps | None = None
    attempts: int = 0
    left_to_torch: bool = False  # for the size of its matrices


class Execution:
    """Knows how the next step of an SVI should run.

    A step runs as machine code after :data:`EAGER_STEPS` eager ones with arguments of the same kind, earlier
    if it is demanded, and never if a program cannot say what it does.

    :param loss_and_grads: returns the loss for the model's arguments and adds gradients to the parameters.
    :param optim: the optimiser.
    :param reachable: what the loss depends on besides its arguments.
    :param policy: how to execute; None for the setting ``execution``.
    :param eager_steps: how many eager steps come first, unless machine code is demanded.
    :param memory: what the objective remembers from step to step.
    """

    def __init__(
        self,
        loss_and_grads: Callable[..., Any],
        optim: Any,
        reachable: Sequence[Any],
        policy: str | None = None,
        eager_steps: int = EAGER_STEPS,
        memory: Memory | None = None,
    ) -> None:
        self._loss_and_grads = loss_and_grads
        self._optim = optim
        self._reachable = tuple(reachable)
        self._policy = policy
        self._eager_steps = eager_steps
        self._memory = memory
        self._kinds: list[_Kind] = []
        self._kind: _Kind | None = None  # of the next step
        self._refused = False
        self._earlier: dict[str, Any] = {}  # kinds of arguments that an earlier run has met

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles compile for themselves.
        return {**self.__dict__, "_kinds": [], "_kind": None}

    def native(self, arguments: Arguments) -> NativeSteps | None:
        """Return what takes the next steps as machine code, or None if the next one should run eagerly.

        :raises ExecutionError: if machine code is demanded and impossible.
        """
        policy = self._policy or settings.read("execution")
        self._kind = None
        if policy == "inductor":
            raise ExecutionError(
                "SVI cannot run by torch.compile in this version\n  fix: use execution='auto' or 'native'"
            )
        if policy == "eager" or self._refused or handler_stack() or not torch.is_grad_enabled():
            return None
        kind = self._kind = self._find(arguments)
        if kind is None or (kind.left_to_torch and policy == "auto"):
            return None
        if kind.native is not None:
            reason = kind.native.change()
            if not kind.native.has_current_parameters():
                reason, kind.taken = "other parameters", 0
            if reason is None:
                return kind.native
            kind.native = None
            if kind.attempts >= _ATTEMPTS:
                self._refuse(f"steps meet {reason} again and again", policy)
                return None
        if kind.taken < (FIRST_STEPS if policy == "native" or kind.attempts else self._eager_steps):
            return None
        return self._compile(kind, policy)

    def note(self, leaves: Sequence[Tensor]) -> None:
        """Take note of the parameters that an eager step has updated."""
        kind = self._kind
        if kind is None:
            return
        if len(leaves) != len(kind.leaves) or any(
            a is not b for a, b in zip(leaves, kind.leaves, strict=True)
        ):
            kind.leaves, kind.taken = list(leaves), 0
        kind.taken += 1

    def _find(self, arguments: Arguments) -> _Kind | None:
        for kind in self._kinds:
            if kind.arguments.alike(arguments.in_form_of(kind.arguments)):
                return kind
        if len(self._kinds) == _KINDS:
            return None
        self._kinds.append(_Kind(arguments))
        self._recall(self._kinds[-1])
        return self._kinds[-1]

    def _compile(self, kind: _Kind, policy: str) -> NativeSteps | None:
        kind.attempts += 1
        try:
            kind.native = self._build(kind, kind.arguments, _MATRIX_WORK if policy == "auto" else math.inf)
        except LargeMatrices:
            kind.left_to_torch = True
        except (NotCapturable, NotLowerable, ImportError) as reason:
            # Perhaps the model reads sizes or lengths from its arguments: a program for these values.
            fixed = kind.arguments.with_fixed_integers()
            if fixed is not None:
                with contextlib.suppress(NotCapturable, NotLowerable, ImportError):
                    kind.native = self._build(kind, fixed)
                    kind.arguments = fixed
            if kind.native is None:
                self._refuse(str(reason), policy)
        return kind.native

    def _build(self, kind: _Kind, arguments: Arguments, most_matrix_work: float = math.inf) -> NativeSteps:
        return NativeSteps(
            self._loss_and_grads,
            self._optim,
            kind.leaves,
            arguments,
            self._reachable,
            self._memory,
            most_matrix_work,
        )

    def _refuse(self, reason: str, policy: str) -> None:
        self._refused = True
        if policy == "native":
            raise ExecutionError(f"SVI cannot run as machine code: {reason}")
        say_once(f"SVI runs eagerly, with the same results but slower: {reason}")

    # -- resuming ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return the eager steps taken and the parameters' names, for each kind of arguments."""
        known = dict(self._earlier)
        store = get_param_store()
        for kind in self._kinds:
            names = [store.param_name(leaf) for leaf in kind.leaves]
            if None not in names:
                known[kind.arguments.description] = (kind.taken, names)
        return known

    def set_state(self, state: dict[str, Any]) -> None:
        """Count the eager steps of an earlier run, whose parameters are back in the store."""
        self._earlier = dict(state)
        for kind in self._kinds:
            self._recall(kind)

    def _recall(self, kind: _Kind) -> None:
        taken, names = self._earlier.pop(kind.arguments.description, (0, ()))
        leaves = [get_param_store().leaf(name) for name in names]
        if kind.taken < taken and None not in leaves:
            kind.taken, kind.leaves = taken, [leaf for leaf in leaves if leaf is not None]
