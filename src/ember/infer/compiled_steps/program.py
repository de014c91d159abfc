"""Capture a gradient step with its optimiser's update as a program, and repeat it in a loop of the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from ember import poutine
from ember.engine import random
from ember.engine.capture import capture
from ember.engine.passes.simplify import simplify
from ember.engine.program import Node, Program, Value
from ember.engine.recording.refusal import NotCapturable
from ember.infer.param_sites import unconstrained_params

Loss = Callable[..., Any]
"""Maps tensors (the data) to the loss, and adds gradients to the parameters that it used."""


class PureOptimizer(Protocol):
    """The update of an optimiser as a function of tensors, as ``optim.functional(params)`` gives it."""

    def state(self) -> list[Tensor]:
        """Return the present state of all parameters."""

    def rates(self) -> list[float]:
        """Return the learning rate of each parameter."""

    def is_current(self) -> bool:
        """Whether the optimiser still is as it was."""

    def update(
        self,
        params: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        state: Sequence[Tensor],
        rates: Sequence[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the next parameters and states."""

    def store(self, state: Sequence[Tensor]) -> None:
        """Write back the states that the optimiser does not keep in tensors."""


class Memory(Protocol):
    """What an objective remembers from step to step, such as running averages."""

    def state(self) -> dict[str, Tensor]:
        """Return what is remembered."""

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Remember something else."""


@dataclass(frozen=True)
class StepProgram:
    """Steps of a loss and an optimiser as one program.

    Inputs: parameters, optimiser state, memory of the objective, ``alive`` (bool scalar), the step's number
    (int64 scalar), learning rates, data, key ``[2]``. Outputs: the first five as they are after the steps,
    then a row for each step ``[length, k + 1]``: the numbers of its loss, and whether it counts. A step whose
    loss or gradient is not finite leaves everything as it was and does not count, nor do those after it.

    :ivar program: the loop.
    :ivar structure: how to nest the k numbers of a loss.
    :ivar matrix_work: floating point operations of a step's matrix products.
    """

    program: Program
    structure: Any
    matrix_work: float


def capture_steps(
    loss: Loss,
    leaves: Sequence[Tensor],
    optimizer: PureOptimizer,
    data: Sequence[Tensor],
    length: int,
    memory: Memory | None = None,
) -> StepProgram:
    """Capture steps of a loss under an optimiser.

    :param loss: the loss; its draws become draws of the program, from a stream for each step.
    :param leaves: the parameters that it uses, in any order: all of them, as they are met in a step.
    :param data: tensors that it is called with.
    :param length: most steps of a run.
    :param memory: what the objective remembers.
    :raises NotCapturable: if the loss does what a program cannot say.
    """
    remembered = {} if memory is None else memory.state()
    state = [*optimizer.state(), *remembered.values()]
    own = len(state) - len(remembered)
    rates = [torch.tensor(rate, dtype=torch.float64) for rate in optimizer.rates()]
    counts = len(state), len(rates)
    structure: Any = None

    def step(*tensors: Tensor) -> list[Tensor]:
        nonlocal structure
        before, alive, number = tensors[: counts[0]], tensors[counts[0]], tensors[counts[0] + 1]
        given = tensors[counts[0] + 2 :]
        if memory is not None:
            memory.set_state(dict(zip(remembered, before[own:], strict=True)))
        value, structure = evaluate(loss, leaves, given[counts[1] :])
        learned = {} if memory is None else memory.state()
        if learned.keys() != remembered.keys():
            raise NotCapturable("the objective remembers something new in a step")
        with torch.no_grad():
            params = [leaf.detach() for leaf in leaves]
            gradients = [None if leaf.grad is None else leaf.grad.detach() for leaf in leaves]
            after = optimizer.update(params, gradients, before[:own], given[: counts[1]])
            # A sum is finite only if its terms are.
            checked = [value.sum(), *(each.sum().to(value.dtype) for each in gradients if each is not None)]
            fine = alive & torch.isfinite(torch.stack(checked)).all()
            kept = [
                torch.where(fine, new, old)
                for new, old in zip(
                    [*after[0], *after[1], *(learned[name] for name in remembered)],
                    [*params, *before],
                    strict=True,
                )
            ]
        return [*kept, fine, number + 1, torch.cat([value, fine.to(value.dtype).reshape(1)])]

    examples = [*state, torch.tensor(True), torch.tensor(0), *rates, *data]
    try:
        captured = capture(
            step, *examples, key=random.key(0), lift=leaves, collect_gradients=True, closed_over="constant"
        )
    finally:
        if memory is not None:
            memory.set_state(remembered)
    num_carried = len(leaves) + counts[0] + 2
    step_program = simplify(captured)
    loop = simplify(_loop(step_program, len(leaves), num_carried, length))
    return StepProgram(loop, structure, _matrix_work(step_program))


def _matrix_work(program: Program) -> float:
    work = 0.0
    for node in program.nodes:
        for region in node.regions:
            work += node.attributes.get("length", 1) * _matrix_work(region)
        if node.op in ("aten.mm.default", "aten.bmm.default"):
            work += 2.0 * math.prod(node.outputs[0].shape) * node.args[0].shape[-1]
    return work


def evaluate(loss: Loss, leaves: Sequence[Tensor], data: Sequence[Tensor]) -> tuple[Tensor, Any]:
    """Return the numbers of a loss ``[k]`` and their structure, after its gradients were accumulated."""
    with poutine.trace(param_only=True) as recorded:
        value = loss(*data)
    used = unconstrained_params(recorded.trace)
    if {id(leaf) for leaf in used} != {id(leaf) for leaf in leaves}:
        raise NotCapturable("the parameters that a step uses differ from one step to the next")
    numbers, structure = tree_flatten(value)
    row = [torch.as_tensor(each).detach().reshape(()).to(torch.float64) for each in numbers]
    return torch.stack(row), structure


def _loop(step: Program, num_params: int, num_carried: int, length: int) -> Program:
    """Wrap the program of one step into one of many; see :class:`StepProgram` for the order of values."""
    own, key, params = step.inputs[: -num_params - 1], step.inputs[-num_params - 1], step.inputs[-num_params:]
    carried = [*params, *own[: num_carried - num_params]]
    outer = own[num_carried - num_params :]
    base = _like(key)
    derive = Node("ember.fold_in.default", (base, carried[-1]), {}, (key,))
    body = Program([*carried, *outer, base], step.constants, [derive, *step.nodes], [*step.outputs])
    inputs = [_like(each) for each in body.inputs]
    losses = Value((length, *step.outputs[-1].shape), step.outputs[-1].dtype)
    results = (*(_like(each) for each in carried), losses)
    scan = Node(
        "scan",
        (tuple(inputs[:num_carried]), (), tuple(inputs[num_carried:])),
        {},
        results,
        regions=(body,),
        attributes={"length": length, "reverse": False, "num_carry": num_carried},
    )
    return Program(inputs, {}, [scan], list(results))


def _like(value: Value) -> Value:
    return Value(value.shape, value.dtype)
