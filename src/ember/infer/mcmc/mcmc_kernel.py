"""Define what a transition kernel of a user's own looks like, and run it like the built-in ones."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ember.infer.mcmc.sampler import Draws
from ember.model.layout import Block, Layout


class MCMCKernel(ABC):
    """Base of transition kernels: ``setup`` once, then ``sample`` from unconstrained params to the next."""

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Prepare for the given arguments of the model; ``initial_params`` must be set afterwards."""
        return

    def cleanup(self) -> None:
        """Let go of what ``setup`` prepared."""
        return

    def logging(self) -> OrderedDict[str, str]:
        """Return figures to show beside the progress bar."""
        return OrderedDict()

    def diagnostics(self) -> dict[str, Any]:
        """Return a dict of diagnostics of the chain."""
        return {}

    def end_warmup(self) -> None:
        """Take note that warmup is over."""
        return

    @property
    def initial_params(self) -> dict[str, Tensor]:
        """Unconstrained values to start from, by site."""
        raise NotImplementedError(f"{type(self).__name__} does not define initial_params")

    @initial_params.setter
    def initial_params(self, params: dict[str, Tensor]) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not take initial_params")

    @abstractmethod
    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the next draw, given the last one."""


def layout_of(params: dict[str, Tensor]) -> Layout:
    """Lay out unconstrained values by site as one vector."""
    blocks = []
    start = 0
    for name, value in params.items():
        block = Block(name, start, value.shape, value.shape, None, False, value.dtype)
        blocks.append(block)
        start = block.stop
    return Layout(blocks)


class KernelSampler:
    """Advance chains by a user's kernel, which keeps its state itself: each chain has a copy of its own.

    :param kernel: set up already.
    :param layout: of its params.
    :param starts: first positions, ``[chains, D]``.
    """

    chunk = 1

    def __init__(self, kernel: MCMCKernel, layout: Layout, starts: Tensor) -> None:
        num_chains = starts.shape[0]
        self.kernels = [kernel] if num_chains == 1 else [copy.deepcopy(kernel) for _ in range(num_chains)]
        self._layout = layout
        self._starts = starts

    def start(self, index: int) -> tuple[MCMCKernel, dict[str, Tensor], bool]:
        """Return the chain's kernel with its first params."""
        return self.kernels[index], self._params(self._starts[index]), False

    def _params(self, position: Tensor) -> dict[str, Tensor]:
        values = self._layout.split(position)
        return {name: value.to(self._layout.blocks[name].dtype) for name, value in values.items()}

    def warmup(self, state: Any, index: int, start: int, stop: int) -> tuple[Any, Draws]:
        """Make warmup draws."""
        return self._draw(state, stop - start)

    def sample(self, state: Any, index: int, num_draws: int) -> tuple[Any, Draws]:
        """Make draws after warmup."""
        kernel, params, warm = state
        if not warm:
            kernel.end_warmup()
        return self._draw((kernel, params, True), num_draws)

    def _draw(self, state: Any, num_draws: int) -> tuple[Any, Draws]:
        kernel, params, warm = state
        positions = []
        for _ in range(num_draws):
            params = kernel.sample(params)
            positions.append(self._layout.join(params))
        return (kernel, params, warm), (torch.stack(positions), {})


class Unconstrained:
    """What a user's kernel samples: params by site, constrained by transforms if there are any."""

    def __init__(self, layout: Any, kernel: MCMCKernel, transforms: Mapping[str, Any] | None) -> None:
        self.layout = layout
        self.transforms = dict(transforms or getattr(kernel, "transforms", None) or {})

    def constrain(self, z: Tensor) -> dict[str, Tensor]:
        values: dict[str, Tensor] = self.layout.split(z)
        for name, transform in self.transforms.items():
            if name in values:
                values[name] = transform.inv(values[name])
        cast: dict[str, Tensor] = self.layout.cast(values)
        return cast
