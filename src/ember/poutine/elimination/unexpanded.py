"""Undo the stretching of distributions by plates, to compute once what is the same in all elements."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

_PLAIN = (bool, int, float, str, type(None), torch.Size)


def unexpanded(site: Any) -> Any:
    """Return a site's distribution with those plates' dims of size 1 along which it is only stretched.

    Its log probability of a value broadcasts to that of the distribution itself. Families whose state is more
    than tensors over the batch shape are returned as they are.
    """
    fn = site["fn"]
    declared = {frame.dim for frame in site["cond_indep_stack"] if frame.size not in (None, -1)}
    if not isinstance(fn, Distribution):
        return fn
    batch = fn.batch_shape
    state = fn.__dict__
    tensors = {name: each for name, each in state.items() if isinstance(each, Tensor)}
    if not batch or not tensors or any(each.shape[: len(batch)] != batch for each in tensors.values()):
        return fn
    if not all(name in tensors or isinstance(each, _PLAIN) for name, each in state.items()):
        return fn
    stretched = [
        dim
        for dim, size in enumerate(batch)
        if size > 1
        and dim - len(batch) in declared
        and all(each.stride(dim) == 0 for each in tensors.values())
    ]
    if not stretched:
        return fn
    new = object.__new__(type(fn))
    new.__dict__.update(state)
    for name, each in tensors.items():
        for dim in stretched:
            each = each.narrow(dim, 0, 1)
        new.__dict__[name] = each
    new.__dict__["_batch_shape"] = torch.Size(1 if dim in stretched else n for dim, n in enumerate(batch))
    return new
