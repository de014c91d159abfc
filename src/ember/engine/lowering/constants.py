"""Make tensors of a program's constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from .tensors import Map, Tensor


class Maker(Protocol):
    """What is needed of a builder."""

    def kind(self, dtype: torch.dtype) -> str:
        """Return the element kind of a dtype, or refuse it."""

    def full(self, shape: Sequence[int], value: int | float | bool, kind: str) -> Map:
        """Make a tensor of equal elements."""


def make_constant(builder: Maker, data: torch.Tensor) -> Tensor:
    """Make a tensor of known elements."""
    kind = builder.kind(data.dtype)
    array = data.detach().contiguous().numpy()
    if array.size and array.size <= 4096 and (array.reshape(-1)[0] == array).all():
        value = array.reshape(-1)[0].item()
        if value != 0 or not str(value).startswith("-"):
            return builder.full(data.shape, value, kind)
    if array.size == 1:
        return builder.full(data.shape, array.reshape(-1)[0].item(), kind)
    tensor = Tensor(data.shape, kind)
    tensor.constant = array
    return tensor
