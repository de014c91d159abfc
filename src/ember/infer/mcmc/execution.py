"""Choose what advances chains: machine code, torch's operations, or these with compiled gradients."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ember.engine.capture import capture
from ember.engine.inductor import compile_by_inductor
from ember.engine.passes.simplify import simplify
from ember.engine.policy import native_or_eager
from ember.infer.mcmc.native import NativeSampler
from ember.infer.mcmc.sampler import HamiltonianSampler, Plan


class _Compiled:
    """A density whose value and gradient torch.compile computes."""

    def __init__(self, plan: Plan) -> None:
        density = plan.density
        examples = (plan.starts[0], *density.inputs)
        program = capture(
            lambda z, *inputs: density.value_and_gradient(z, inputs), *examples, closed_over="constant"
        )
        self._call = compile_by_inductor(simplify(program), *examples)
        self._inputs = density.inputs

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = self._call(z, *self._inputs)
        return value, gradient


def make_sampler(plan: Plan, what: str) -> HamiltonianSampler | NativeSampler:
    """Return what advances the chains of a plan, as ``settings.execution`` says.

    The draws are the same up to rounding.

    :param what: the kernel's name, for messages.
    :raises ExecutionError: if the setting demands what is not possible.
    """

    def with_compiled_gradients() -> HamiltonianSampler:
        density = _Compiled(plan)
        return HamiltonianSampler(replace(plan, density=density, starting=density))

    return native_or_eager(
        lambda: NativeSampler(plan), lambda: HamiltonianSampler(plan), what, with_compiled_gradients
    )
