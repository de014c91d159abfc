"""Say how tensors are multiplied and summed: as numbers, as logarithms, or by their maxima."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ember.poutine.elimination.factors import log_sum_exp


class Ring(ABC):
    """A product of tensors, and a sum over dims, that distribute."""

    @abstractmethod
    def multiply(self, tensors: Sequence[Tensor]) -> Tensor:
        """Multiply tensors that broadcast."""

    @abstractmethod
    def sum(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        """Sum over dims, which are given by their positions."""

    @abstractmethod
    def product(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        """Multiply the slices along dims."""

    @abstractmethod
    def _before(self, tensor: Tensor) -> Tensor:
        """Return, along the last dim, the product of all entries before each."""

    def exclusive_product(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        """Return, for each entry along some dims, the product of all others; without a division."""
        last = tensor.movedim(tuple(axes), tuple(range(-len(axes), 0)))
        flat = last.flatten(-len(axes))
        around = self.multiply([self._before(flat), self._before(flat.flip(-1)).flip(-1)])
        return around.reshape(last.shape).movedim(tuple(range(-len(axes), 0)), tuple(axes))


class LinearRing(Ring):
    """Numbers, with their product and sum."""

    def multiply(self, tensors: Sequence[Tensor]) -> Tensor:
        return functools.reduce(torch.mul, tensors)

    def sum(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        return tensor.sum(list(axes)) if axes else tensor

    def product(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        for axis in sorted(axes, reverse=True):
            tensor = tensor.prod(axis)
        return tensor

    def _before(self, tensor: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(tensor[..., :1]), tensor[..., :-1]], -1).cumprod(-1)


class LogRing(Ring):
    """Logarithms of numbers."""

    def multiply(self, tensors: Sequence[Tensor]) -> Tensor:
        return functools.reduce(torch.add, tensors)

    def sum(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        return log_sum_exp(tensor, list(axes)) if axes else tensor

    def product(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        return tensor.sum(list(axes)) if axes else tensor

    def _before(self, tensor: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(tensor[..., :1]), tensor[..., :-1]], -1).cumsum(-1)


class MapRing(LogRing):
    """Logarithms of numbers, whose maximum takes the place of the sum."""

    def sum(self, tensor: Tensor, axes: Sequence[int]) -> Tensor:
        return tensor.amax(list(axes)) if axes else tensor


class SampleRing(LogRing):
    """Logarithms of numbers; going backward draws the summed dims with these weights."""


class MarginalRing(LogRing):
    """Logarithms of numbers; going backward gives marginals."""


BACKEND_TO_RING: dict[str, type[Ring]] = {
    "torch": LinearRing,
    "pyro.ops.einsum.torch_log": LogRing,
    "pyro.ops.einsum.torch_map": MapRing,
    "pyro.ops.einsum.torch_sample": SampleRing,
    "pyro.ops.einsum.torch_marginal": MarginalRing,
}
BACKEND_TO_RING.update({name.replace("pyro", "ember"): ring for name, ring in BACKEND_TO_RING.items()})
