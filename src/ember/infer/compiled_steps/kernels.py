"""Take gradient steps by calling torch's kernels one after the other, without handlers or autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_unflatten

from ember.engine.capture import capture
from ember.engine.inductor import compile_by_inductor
from ember.engine.passes.simplify import simplify
from ember.engine.program import Program
from ember.engine.recording.refusal import NotCapturable
from ember.engine.straight_line import compile_to_calls
from ember.infer.compiled_steps.arguments import Arguments
from ember.infer.compiled_steps.buffers import Buffers
from ember.infer.compiled_steps.captured import CapturedSteps
from ember.infer.compiled_steps.program import Loss, Memory, evaluate


class KernelSteps(CapturedSteps):
    """Steps whose loss and gradients are a captured program of torch's operations; the optimiser is its own.

    They do what eager steps do, up to the rounding of sums in another order, with the same draws of torch's
    generator. What a network needs of a step is its matrix products; this leaves little else.

    :param loss_and_grads: called with the arguments; returns the loss and adds gradients to the parameters.
    :param optim: the optimiser.
    :param leaves: the parameters of a step.
    :param reachable: what the loss may depend on besides: model, guide, objective.
    :param memory: what the objective remembers from step to step.
    :param by_inductor: let torch.compile fuse the operations.
    :raises NotCapturable: if a step does what a program cannot say.
    :raises NotInductable: if torch.compile cannot make anything of it.
    """

    draws_from_seed = False

    def __init__(
        self,
        loss_and_grads: Loss,
        optim: Callable[[Sequence[Tensor]], Any],
        leaves: Sequence[Tensor],
        arguments: Arguments,
        reachable: Sequence[Any],
        memory: Memory | None = None,
        by_inductor: bool = False,
    ) -> None:
        if any(hasattr(leaf, "_pyro_subsample") for leaf in leaves) and not _is_known(optim, leaves):
            raise NotCapturable("the optimiser may look at which part of a parameter a minibatch touches")
        super().__init__(loss_and_grads, leaves, arguments, reachable)
        self._optim = optim
        self._memory = memory
        self._interrupted = False
        self._buffers = Buffers(self._surroundings.modules)
        self._gradients = self._captured(self._capture)
        program = self._gradients.program
        if by_inductor:
            self._run = compile_by_inductor(program, *self._inputs(arguments))
        else:
            self._run = compile_to_calls(program)
            self._try()

    @property
    def writes_buffers(self) -> bool:
        """Whether modules change their buffers in a step."""
        return bool(self._gradients.written)

    def _try(self) -> None:
        """Run the program once, since some operations need more of their arguments than a capture can see."""
        generator = torch.get_rng_state()
        try:
            self._run(*self._inputs(self._arguments))
        except Exception as error:
            raise NotCapturable(f"torch's kernels refuse what was captured: {error}") from error
        finally:
            torch.set_rng_state(generator)

    def _capture(self, loss: Loss) -> GradientProgram:
        tensors = self._arguments.tensors
        captured = capture_gradients(loss, self._leaves, tensors, self._memory, self._buffers)
        self._surroundings.release(self._buffers.tensors)
        return captured

    def take(self, num_steps: int, arguments: Arguments, seed: int, first: int = 0) -> tuple[list[Any], bool]:
        """Take up to so many steps."""
        arguments = arguments.in_form_of(self._arguments)
        losses: list[Any] = []
        fine = True
        while len(losses) < num_steps and fine and not (self._interrupted and losses):
            row, *results = self._run(*self._inputs(arguments))
            *numbers, counts = row.tolist()
            losses.append(tree_unflatten(numbers, self._gradients.structure))
            fine = bool(counts)
            if fine:
                self._update(results)
        self._interrupted = False
        return losses, fine

    def interrupt(self) -> None:
        """Stop after the present step; from any thread."""
        self._interrupted = True

    def _inputs(self, arguments: Arguments) -> list[Tensor]:
        state = [] if self._memory is None else self._memory.state().values()
        return [*state, *arguments.tensors, *self._leaves, *self._buffers.tensors]

    def _update(self, results: list[Tensor]) -> None:
        """Let the optimiser update the parameters, and the objective remember."""
        gradients = results[: len(self._gradients.has_gradient)]
        for place, gradient in zip(self._gradients.has_gradient, gradients, strict=True):
            leaf = self._leaves[place]
            if gradient.stride() != leaf.stride():  # fused optimisers go through both memories in step
                gradient = torch.empty_like(leaf, requires_grad=False).copy_(gradient)
            leaf.grad = gradient
        self._optim(self._leaves)
        for leaf in self._leaves:
            leaf.grad = None
        written = len(results) - len(self._gradients.written)
        if self._memory is not None:
            learned = zip(self._memory.state(), results[len(gradients) : written], strict=True)
            self._memory.set_state(dict(learned))
        for place, result in zip(self._gradients.written, results[written:], strict=True):
            self._buffers.tensors[place].copy_(result)


def _is_known(optim: Any, leaves: Sequence[Tensor]) -> bool:
    """Whether an optimiser has an update rule that looks at nothing but gradients."""
    return hasattr(optim, "functional") and optim.functional(leaves) is not None


@dataclass(frozen=True)
class GradientProgram:
    """A loss and its gradients as one program of torch's operations.

    Inputs: memory of the objective, data, parameters, buffers. Outputs: the numbers of the loss and whether
    it and its gradients are finite ``[k + 1]``, gradients, memory after the step, buffers that it changed.

    :ivar has_gradient: positions of the parameters that have a gradient.
    :ivar written: positions of the buffers that a step changes.
    :ivar structure: how to nest the k numbers of a loss.
    """

    program: Program
    has_gradient: list[int]
    written: list[int]
    structure: Any


def capture_gradients(
    loss: Loss, leaves: Sequence[Tensor], data: Sequence[Tensor], memory: Memory | None, buffers: Buffers
) -> GradientProgram:
    """Capture a loss with its gradients.

    :param loss: called with the data; its draws stay draws from torch's generator.
    :param leaves: the parameters that it uses, all of them.
    :param memory: what the objective remembers.
    :param buffers: those of modules that the loss may use, and may change.
    :raises NotCapturable: if the loss does what a program cannot say.
    """
    remembered = {} if memory is None else memory.state()
    structure: Any = None
    has_gradient: list[int] = []

    def step(*tensors: Tensor) -> list[Tensor]:
        nonlocal structure, has_gradient
        if memory is not None:
            memory.set_state(dict(zip(remembered, tensors[: len(remembered)], strict=True)))
        value, structure = evaluate(loss, leaves, tensors[len(remembered) :])
        learned = {} if memory is None else memory.state()
        if learned.keys() != remembered.keys():
            raise NotCapturable("the objective remembers something new in a step")
        with torch.no_grad():
            has_gradient = [place for place, leaf in enumerate(leaves) if leaf.grad is not None]
            gradients = [leaf.grad.detach() for leaf in leaves if leaf.grad is not None]
            # A sum is finite only if its terms are.
            checked = [value.sum(), *(each.sum().to(value.dtype) for each in gradients)]
            fine = torch.isfinite(torch.stack(checked)).all()
            row = torch.cat([value, fine.to(value.dtype).reshape(1)])
        return [row, *gradients, *(learned[name] for name in remembered), *buffers.values()]

    try:
        captured = capture(
            step,
            *remembered.values(),
            *data,
            lift=[*leaves, *buffers.tensors],
            collect_gradients=True,
            closed_over="constant",
            for_kernels=True,
            writable=buffers.tensors,
        )
    finally:
        buffers.put_back()
        if memory is not None:
            memory.set_state(remembered)
    program = simplify(captured)
    first = len(program.outputs) - len(buffers.tensors)
    before = program.inputs[len(program.inputs) - len(buffers.tensors) :]
    written = [place for place, value in enumerate(before) if program.outputs[first + place] is not value]
    outputs = program.outputs[:first] + [program.outputs[first + place] for place in written]
    program = Program(program.inputs, program.constants, program.nodes, outputs)
    return GradientProgram(program, has_gradient, written, structure)
