"""Choose whether the steps of an SVI run eagerly or as machine code, and notice when that has to change."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ember import settings
from ember.engine.lowering.errors import NotLowerable
from ember.engine.policy import ExecutionError, NotInductable, say_once
from ember.engine.recording.refusal import NotCapturable
from ember.infer.compiled_steps.arguments import Arguments
from ember.infer.compiled_steps.captured import CapturedSteps
from ember.infer.compiled_steps.kernels import KernelSteps
from ember.infer.compiled_steps.kinds import Kind, Kinds
from ember.infer.compiled_steps.native import LargeMatrices, NativeSteps
from ember.infer.compiled_steps.program import Memory
from ember.poutine.runtime import handler_stack

# Eager steps of one kind before compiling pays off. A number of steps and not a time, so that draws do not
# depend on how fast the machine is.
EAGER_STEPS = 30
# So many sites make an eager step take about twice as long, so that half as many are enough, and so on.
_SITES = 50
# Where machine code is demanded: they make parameters and the optimiser's state, and validate.
FIRST_STEPS = 2
_ATTEMPTS = 4  # programs of one kind whose surroundings changed, before it stays eager
_MATRIX_WORK = 5e7  # floating point operations of a step's matrix products, from which on they dominate it


class Execution:
    """Knows how the next step of an SVI should run.

    A step runs as machine code after :data:`EAGER_STEPS` eager ones with arguments of the same kind, earlier
    if it is demanded or steps have many sites, and never if a program cannot say what it does.

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
        self._kinds = Kinds()
        self._kind: Kind | None = None  # of the next step
        self._refused = False

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles compile for themselves.
        return {**self.__dict__, "_kinds": Kinds(), "_kind": None}

    def captured(self, arguments: Arguments) -> CapturedSteps | None:
        """Return what takes the next steps from a program, or None if the next one should run eagerly.

        :raises ExecutionError: if a kind of program is demanded and impossible.
        """
        policy = self._policy or settings.read("execution")
        self._kind = None
        if policy == "eager" or self._refused or handler_stack() or not torch.is_grad_enabled():
            return None
        kind = self._kind = self._kinds.find(arguments)
        if kind is None:
            return None
        if kind.captured is not None:
            reason = kind.captured.change()
            if not kind.captured.has_current_parameters():
                reason, kind.taken = "other parameters", 0
            if reason is None:
                return kind.captured
            kind.captured = None
            if kind.attempts >= _ATTEMPTS:
                self._refuse(f"steps meet {reason} again and again", policy)
                return None
        waiting = policy == "auto" and not kind.attempts
        enough = self._eager_steps // (1 + kind.sites // _SITES) if waiting else 0
        if kind.taken < max(enough, FIRST_STEPS):
            return None
        kind.attempts += 1
        kind.captured = self._by_inductor(kind) if policy == "inductor" else self._compile(kind, policy)
        return kind.captured

    def note(self, leaves: Sequence[Tensor], sites: int) -> None:
        """Take note of the parameters that an eager step has updated, and of the number of its sites."""
        if self._kind is not None:
            self._kind.note(leaves, sites)

    def _compile(self, kind: Kind, policy: str) -> CapturedSteps | None:
        """Return machine code, or else what calls torch's kernels, unless machine code is demanded."""
        try:
            return self._native(kind, kind.arguments, _MATRIX_WORK if policy == "auto" else math.inf)
        except LargeMatrices:
            reason = ""
        except (NotCapturable, NotLowerable, ImportError) as error:
            reason = str(error)
            # Perhaps the model reads sizes or lengths from its arguments: a program for these values.
            fixed = kind.arguments.with_fixed_integers()
            if fixed is not None:
                with contextlib.suppress(NotCapturable, NotLowerable, ImportError):
                    native = self._native(kind, fixed)
                    kind.arguments = fixed
                    return native
        if policy == "auto":
            try:
                kernels = self._kernels(kind)
                # Where modules write their buffers nothing is amiss.
                if reason and not kernels.writes_buffers:
                    say_once(f"SVI runs on torch's kernels, with the same results but slower: {reason}")
                return kernels
            except NotCapturable as error:
                reason = reason or str(error)
        if kind.arguments.lifts_floats:
            kind.refused = True  # each value has to be a kind of its own
        else:
            self._refuse(reason, policy)
        return None

    def _by_inductor(self, kind: Kind) -> CapturedSteps | None:
        try:
            return self._kernels(kind, by_inductor=True)
        except (NotCapturable, NotInductable) as reason:
            if kind.arguments.lifts_floats:
                kind.refused = True
                return None
            raise ExecutionError(
                f"SVI cannot run by torch.compile: {reason}\n  fix: use execution='auto', 'native' or 'eager'"
            ) from reason

    def _native(self, kind: Kind, arguments: Arguments, most_matrix_work: float = math.inf) -> NativeSteps:
        loss, optim, reachable, memory = self._loss_and_grads, self._optim, self._reachable, self._memory
        return NativeSteps(loss, optim, kind.leaves, arguments, reachable, memory, most_matrix_work)

    def _kernels(self, kind: Kind, by_inductor: bool = False) -> KernelSteps:
        loss, optim, reachable, memory = self._loss_and_grads, self._optim, self._reachable, self._memory
        return KernelSteps(loss, optim, kind.leaves, kind.arguments, reachable, memory, by_inductor)

    def _refuse(self, reason: str, policy: str) -> None:
        self._refused = True
        if policy == "native":
            raise ExecutionError(f"SVI cannot run as machine code: {reason}")
        say_once(f"SVI runs eagerly, with the same results but slower: {reason}")

    # -- resuming ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return the eager steps taken and the parameters' names, for each kind of arguments."""
        return self._kinds.state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Count the eager steps of an earlier run, whose parameters are back in the store."""
        self._kinds.set_state(state)
