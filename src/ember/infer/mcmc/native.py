"""Advance chains as machine code: one program for warmup and sampling, without the interpreter lock."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from ember.engine.capture import capture
from ember.engine.compile import CompiledProgram, Context, compile
from ember.engine.passes.simplify import simplify
from ember.engine.policy import compact_inputs
from ember.infer.mcmc.sampler import Draws, HamiltonianSampler, Plan
from ember.infer.mcmc.store import statistics_of
from ember.kernels import chain as chains
from ember.kernels.chain import ChainState
from ember.kernels.schedule import Schedule

# Between chunks is Python, which should not count; but a chunk's draws are kept until it ends, so no more
# than this many numbers of them.
_MAX_CHUNK, _MIN_CHUNK, _MAX_NUMBERS = 2048, 16, 1 << 20


class NativeSampler:
    """Run HMC and NUTS natively; the draws are those of :class:`HamiltonianSampler` up to rounding.

    Chains start eagerly. Each then has a context of its own, so that chains can run in threads at the same
    time.

    :param plan: what to run.
    :raises NotCapturable: if the model does what a program cannot say.
    :raises NotLowerable: if it uses an operation that has no machine code.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._eager = HamiltonianSampler(plan)
        size = plan.starts.shape[1]
        self.chunk = max(_MIN_CHUNK, min(_MAX_CHUNK, _MAX_NUMBERS // max(size, 1)))
        self.seconds = {"capture": 0.0, "compile": 0.0}
        self._contexts: list[Context] = []
        self._structure: Any = None
        self._first = self._eager.start(0)
        self._program = self._compile(self._first)
        self._contexts = [self._program.context() for _ in range(plan.starts.shape[0])]

    def start(self, index: int) -> ChainState:
        """Evaluate the density at the first position, and look for a first step size if it is adapted."""
        return self._first if index == 0 else self._eager.start(index)

    def warmup(self, state: ChainState, index: int, start: int, stop: int) -> tuple[ChainState, Draws]:
        """Make the warmup draws ``start`` to ``stop`` − 1, fewer if interrupted."""
        return self._advance(state, index, self._plan.schedule.rows(start, stop), stop - start, True)

    def sample(self, state: ChainState, index: int, num_draws: int) -> tuple[ChainState, Draws]:
        """Make draws with everything fixed, fewer if interrupted."""
        return self._advance(state, index, Schedule.idle(num_draws), num_draws, False)

    def interrupt(self) -> None:
        """Let all chains stop after their present draw; may be called from another thread."""
        for context in self._contexts:
            context.interrupt()

    def progress(self, index: int) -> int:
        """Return the finished draws of the chunk that a chain is at."""
        return self._contexts[index].progress

    def _compile(self, first: ChainState) -> CompiledProgram:
        plan, density = self._plan, self._plan.density
        evaluated = plan.starting or density
        leaves, carried = tree_flatten(first)
        rows, tabulated = tree_flatten(Schedule.idle(self.chunk))
        counts = len(leaves), len(rows)

        def advance(*tensors: Tensor) -> Any:
            chain = tree_unflatten(list(tensors[: counts[0]]), carried)
            schedule = tree_unflatten(list(tensors[counts[0] : sum(counts)]), tabulated)
            warming, *inputs = tensors[sum(counts) :]
            with torch.no_grad():
                result = chains.run_chunk(
                    lambda z: evaluated.value_and_gradient(z, tuple(inputs)),
                    plan.transition,
                    plan.adaptation,
                    chain,
                    schedule,
                    warming,
                )
            flat, self._structure = tree_flatten(result)
            return flat

        started = time.perf_counter()
        examples = [*leaves, *rows, torch.tensor(True), *density.inputs]
        # Params and the weights of networks are what they are now: sampling does not learn them.
        program = simplify(capture(advance, *examples, closed_over="constant"))
        captured = time.perf_counter()
        compiled = compile(program, compact=compact_inputs(examples, len(examples) - len(density.inputs)))
        self.seconds = {"capture": captured - started, "compile": time.perf_counter() - captured}
        return compiled

    def _advance(
        self, state: ChainState, index: int, schedule: Schedule, num_draws: int, warming: bool
    ) -> tuple[ChainState, Draws]:
        context = self._contexts[index]
        inputs = [*tree_flatten(state)[0], *schedule.padded(self.chunk), torch.tensor(warming)]
        context.bind(*inputs, *self._plan.density.inputs)
        results = context.run(limit=num_draws)
        made = context.progress
        count = len(tree_flatten(state)[0])
        # The context's outputs are written again by its next run.
        kept = [each.clone() for each in results[:count]] + [each[:made].clone() for each in results[count:]]
        state, draws = tree_unflatten(kept, self._structure)
        return state, (draws.position, statistics_of(draws.info))
