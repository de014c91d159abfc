"""Differentiate twice."""

from __future__ import annotations

import torch
from torch import Tensor


def hessian(y: Tensor, xs: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Return the matrix of second derivatives of a scalar in all entries of one or several tensors.

    :param y: scalar, twice differentiable in ``xs``.
    :returns: ``(n, n)``, n being the number of entries in all.
    """
    inputs = [xs] if isinstance(xs, Tensor) else list(xs)
    first = torch.autograd.grad(y, inputs, create_graph=True, allow_unused=True)
    flat = torch.cat([_or_zeros(g, x).reshape(-1) for g, x in zip(first, inputs, strict=True)])
    rows = []
    for entry in flat:
        second: tuple[Tensor | None, ...] = (None,) * len(inputs)
        if entry.requires_grad:
            second = torch.autograd.grad(entry, inputs, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([_or_zeros(g, x).reshape(-1) for g, x in zip(second, inputs, strict=True)]))
    return torch.stack(rows)


def _or_zeros(gradient: Tensor | None, x: Tensor) -> Tensor:
    return torch.zeros_like(x) if gradient is None else gradient
