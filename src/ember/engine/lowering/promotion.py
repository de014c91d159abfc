"""Apply torch's rules of type promotion."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch


@lru_cache(maxsize=4096)
def promoted(dtypes: tuple[Any, ...], ranked: tuple[bool, ...], default: torch.dtype) -> torch.dtype:
    """Promote: tensors with dimensions before scalar tensors before numbers, within categories."""
    result: Any = None
    dummies = []
    for dtype, has_dimensions in zip(dtypes, ranked, strict=True):
        if isinstance(dtype, torch.dtype):
            dummies.append(torch.empty((0,) if has_dimensions else (), dtype=dtype))
        else:
            dummies.append(dtype(1))
    result = dummies[0]
    if len(dummies) == 1:
        return result.dtype if isinstance(result, torch.Tensor) else default
    for other in dummies[1:]:
        dtype = torch.result_type(result, other)
        dims = any(isinstance(each, torch.Tensor) and each.dim() for each in (result, other))
        result = torch.empty((0,) if dims else (), dtype=dtype)
    return result.dtype
