"""Push a distribution through transforms."""

from __future__ import annotations

from typing import Any

import torch

from .parameters import table
from .torch_distribution import OwnOrBase, TorchDistribution, carrying, finish


class TransformedDistribution(torch.distributions.TransformedDistribution, TorchDistribution):
    """The distribution of ``base_dist`` after ``transforms``, with the density of the change of variables.

    :param base_distribution: any distribution over tensors.
    :param transforms: one transform, or a list applied from left to right.
    """

    expand = carrying(torch.distributions.TransformedDistribution.expand)
    arg_constraints: dict[str, Any] = table()
    has_rsample = OwnOrBase()

    def __init__(self, base_distribution: Any, transforms: Any, validate_args: bool | None = None) -> None:
        super().__init__(base_distribution, transforms, validate_args=False)
        finish(self, validate_args)

    def clear_cache(self) -> None:
        """Forget the last input and output of every transform that keeps them."""
        for transform in self.transforms:
            clear = getattr(transform, "clear_cache", None)
            if clear is not None:
                clear()
