"""Turn a family's arguments into tensors of one shape, at the least cost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions.utils import broadcast_all

Parameter = Tensor | float


def one(a: Any) -> Tensor:
    """Return the argument as a tensor."""
    if isinstance(a, Tensor):
        return a
    if isinstance(a, (float, int)):
        return torch.scalar_tensor(a)
    return broadcast_all(a)[0]


def pair(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Return two arguments as tensors of one shape; numbers take the dtype and device of the tensor."""
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            if a.shape != b.shape:
                a, b = torch.broadcast_tensors(a, b)
            return a, b
        if isinstance(b, (float, int)):
            b = torch.scalar_tensor(b, dtype=a.dtype, device=a.device)
            return (a, b) if a.dim() == 0 else (a, b.expand(a.shape))
    elif isinstance(a, (float, int)):
        if isinstance(b, (float, int)):
            return torch.scalar_tensor(a), torch.scalar_tensor(b)
        if isinstance(b, Tensor):
            a = torch.scalar_tensor(a, dtype=b.dtype, device=b.device)
            return (a, b) if b.dim() == 0 else (a.expand(b.shape), b)
    return broadcast_all(a, b)  # type: ignore[return-value]


def several(*values: Any) -> tuple[Tensor, ...]:
    """Return arguments as tensors of one shape; numbers take the dtype and device of the first tensor."""
    return broadcast_all(*values)
