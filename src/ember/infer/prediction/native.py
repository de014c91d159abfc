"""Run a model once for each of many draws, in one loop of machine code."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ember import settings
from ember.engine import random
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.control import scan
from ember.engine.passes.simplify import simplify
from ember.infer.seed import draw_seed

# With fewer draws running eagerly takes no longer than compiling.
WORTH_COMPILING = 500


def run_natively(
    run: Callable[[dict[str, Tensor]], dict[str, Tensor]], samples: dict[str, Tensor], count: int
) -> dict[str, Tensor]:
    """Return what ``run`` makes of each draw, stacked: the numbers it draws follow the same distributions.

    They depend on the state of torch's generator, from which one number is taken.

    :param run: values by name → values by name; is captured, not called for each draw.
    :param samples: draws by name, ``[count, ...]``.
    :raises NotCapturable: if ``run`` does what a program cannot say.
    :raises NotLowerable: if it uses an operation that has no machine code.
    """
    names: list[str] = []

    def loop(*stacked: Tensor) -> tuple[Tensor, ...]:
        def step(carry: Tensor, values: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            found = run(dict(zip(samples, values, strict=True)))
            names[:] = found
            return carry, tuple(found.values())

        ys: tuple[Tensor, ...] = scan(step, torch.zeros(()), stacked, length=count)[1]
        return ys

    inputs = [each.detach() for each in samples.values()]
    with settings.validation_enabled(False):
        program = capture(loop, *inputs, key=random.key(0), closed_over="constant")
    compiled = compile(simplify(program))
    return dict(zip(names, compiled(*inputs, random.key(draw_seed())), strict=True))
