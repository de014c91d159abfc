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
            return (a, b) if a.shape == b.shape else torch.broadcast_tensors(a, b)
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
    first = values[0]
    if isinstance(first, Tensor) and all(isinstance(v, Tensor) and v.shape == first.shape for v in values):
        return values
    return broadcast_all(*values)


def table(**entries: Any) -> dict[str, Any]:
    """Return the keywords as the dict that torch expects of ``arg_constraints``."""
    return entries


class Constant(dict[torch.dtype, Tensor]):
    """A number as 0-dim CPU tensors by dtype: adding one costs half of adding a Python number.

    The usual dtypes are filled at import, so that nothing is created while a program is captured.
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
            self[dtype]

    def __missing__(self, dtype: torch.dtype) -> Tensor:
        kind = dtype if dtype.is_floating_point else torch.get_default_dtype()
        number = torch.tensor(self.value, dtype=kind, device="cpu")
        if kind is dtype:
            self[dtype] = number
        return number


ZERO = Constant(0.0)
HALF = Constant(0.5)
ONE = Constant(1.0)
NEGATIVE_INFINITY = Constant(float("-inf"))
