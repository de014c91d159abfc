"""Take gradient steps as machine code, on the parameters and the optimiser state that eager steps use."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_unflatten

from ember.engine import random
from ember.engine.compile import compile
from ember.engine.recording.refusal import NotCapturable
from ember.infer.compiled_steps.arguments import Arguments
from ember.infer.compiled_steps.captured import CapturedSteps
from ember.infer.compiled_steps.program import Memory, PureOptimizer, capture_steps

CHUNK = 1024  # most steps of one call of machine code


class LargeMatrices(Exception):
    """Torch's own kernels take these steps as fast as machine code would."""


class NativeSteps(CapturedSteps):
    """Steps of one loss on one set of parameters, for arguments of one kind.

    :param loss_and_grads: called with the arguments; returns the loss and adds gradients to the parameters.
    :param optim: the optimiser; it has updated all of the parameters before.
    :param leaves: the parameters of a step.
    :param reachable: what the loss may depend on besides: model, guide, objective.
    :param memory: what the objective remembers from step to step.
    :param most_matrix_work: most floating point operations of matrix products in a step.
    :raises LargeMatrices: if there are more.
    :raises NotCapturable: if a step does what a program cannot say.
    :raises NotLowerable: if it has an operation without machine code.
    """

    def __init__(
        self,
        loss_and_grads: Callable[..., Any],
        optim: Any,
        leaves: Sequence[Tensor],
        arguments: Arguments,
        reachable: Sequence[Any],
        memory: Memory | None = None,
        most_matrix_work: float = math.inf,
    ) -> None:
        optimizer = optim.functional(leaves) if hasattr(optim, "functional") else None
        if optimizer is None:
            raise NotCapturable(f"{type(optim).__name__} has no update rule for machine code")
        if _overlap(leaves):
            raise NotCapturable("parameters share memory")
        super().__init__(loss_and_grads, leaves, arguments, reachable)
        self._optimizer: PureOptimizer = optimizer
        self._memory = memory
        steps = self._captured(
            lambda loss: capture_steps(loss, self._leaves, optimizer, arguments.tensors, CHUNK, memory)
        )
        if steps.matrix_work > most_matrix_work:
            raise LargeMatrices
        self._structure = steps.structure
        self._program = compile(steps.program)
        self._context = self._program.context()
        # What changes from run to run lives in memory of ours, so that inputs are bound once.
        self._number, self._key = torch.zeros((), dtype=torch.int64), random.key(0)
        self._rates = torch.tensor(optimizer.rates(), dtype=torch.float64)
        self._own = [torch.tensor(True), self._number, *self._rates.unbind()]
        self._inputs: list[Tensor] = []
        self._addresses: list[int] = []
        self._in_place = False  # whether runs change parameters and state where they are

    def change(self) -> str | None:
        """Return what is different now from what the program knows, or None."""
        return super().change() if self._optimizer.is_current() else "other options of the optimiser"

    def take(self, num_steps: int, arguments: Arguments, seed: int, first: int = 0) -> tuple[list[Any], bool]:
        """Take up to so many steps."""
        arguments = arguments.in_form_of(self._arguments)
        losses: list[Any] = []
        fine = True
        while len(losses) < num_steps and fine:
            size = min(num_steps - len(losses), CHUNK)
            rows = self._run(size, arguments, seed, first + len(losses))
            for *numbers, counts in rows:
                losses.append(tree_unflatten(numbers, self._structure))
                fine = bool(counts)
                if not fine:
                    break
            if len(rows) < size:
                self._renew()
                break
        return losses, fine

    def interrupt(self) -> None:
        """Stop after the present step; from any thread."""
        self._context.interrupt()

    def _renew(self) -> None:
        """Be ready to run again after an interruption."""
        self._context = self._program.context()
        self._inputs = []

    def _run(self, size: int, arguments: Arguments, seed: int, first: int) -> list[list[float]]:
        self._number.numpy()[()] = first
        self._key.numpy()[0] = seed
        self._rates.numpy()[:] = self._optimizer.rates()
        own = self._optimizer.state()
        state = own if self._memory is None else [*own, *self._memory.state().values()]
        inputs = [*self._leaves, *state, *self._own, *arguments.tensors, self._key]
        count = len(self._leaves) + len(state)
        addresses = [tensor.data_ptr() for tensor in inputs]
        if (
            not self._inputs
            or addresses != self._addresses
            or any(map(operator.is_not, inputs, self._inputs))
        ):
            self._context.bind(*inputs)
            self._in_place = self._context.write_to_inputs(count)
            # Others are copied when they are bound, so that later changes of them would go unseen.
            self._inputs = inputs if all(tensor.is_contiguous() for tensor in inputs) else []
            self._addresses = addresses
        results = self._context.run(limit=size)
        if self._in_place:
            torch.autograd.graph.increment_version(inputs[:count])
        else:
            with torch.no_grad():
                torch._foreach_copy_(inputs[:count], list(results[:count]))
        self._optimizer.store(results[len(self._leaves) : len(self._leaves) + len(own)])
        rows: list[list[float]] = results[-1][: self._context.progress].tolist()
        return rows


def _overlap(tensors: Sequence[Tensor]) -> bool:
    """Whether some of these tensors have elements in the same place."""
    spans = []
    for each in tensors:
        if each.numel():
            last = sum((size - 1) * step for size, step in zip(each.shape, each.stride(), strict=True))
            spans.append((each.data_ptr(), each.data_ptr() + (last + 1) * each.element_size()))
    spans.sort()
    return any(end > start for (_, end), (start, _) in itertools.pairwise(spans))
