"""Shape tensors as models of many designs at once need it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ember import plate

__all__ = [
    "get_indices",
    "iter_plates_to_shape",
    "lexpand",
    "rdiag",
    "rexpand",
    "rmm",
    "rmv",
    "rtril",
    "rvv",
    "tensor_to_dict",
]


def get_indices(
    labels: Sequence[str],
    sizes: Mapping[str, int] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Return where parts stand in a vector that joins all parts.

    :param labels: names of the parts.
    :param sizes: sizes of all parts, in order; by default those of
    :param tensors: tensors, by their last dims.
    """
    if sizes is None:
        sizes = {name: tensor.shape[-1] for name, tensor in (tensors or {}).items()}
    start, found = 0, {}
    for name, size in sizes.items():
        found[name] = torch.arange(start, start + size)
        start += size
    return torch.cat([found[name] for name in labels])


def tensor_to_dict(
    sizes: Mapping[str, int], tensor: Tensor, subset: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Take the last dim of a tensor apart into named parts.

    :param sizes: sizes of all parts, in order.
    :param tensor: what joins them.
    :param subset: names of those to return, by default all.
    """
    parts = dict(zip(sizes, tensor.split(list(sizes.values()), -1), strict=True))
    return parts if subset is None else {name: parts[name] for name in subset}


def lexpand(A: Tensor, *dimensions: int) -> Tensor:
    """Add dims of the given sizes on the left."""
    return A.expand(*dimensions, *A.shape)


def rexpand(A: Tensor, *dimensions: int) -> Tensor:
    """Add dims of the given sizes on the right."""
    return A.reshape(*A.shape, *(1 for _ in dimensions)).expand(*A.shape, *dimensions)


def rmm(A: Tensor, B: Tensor) -> Tensor:
    """Multiply matrices."""
    return A @ B


def rmv(A: Tensor, b: Tensor) -> Tensor:
    """Multiply matrices with vectors."""
    return (A @ b.unsqueeze(-1)).squeeze(-1)


def rvv(a: Tensor, b: Tensor) -> Tensor:
    """Multiply vectors with vectors."""
    return (a * b).sum(-1)


def rdiag(v: Tensor) -> Tensor:
    """Return diagonal matrices."""
    return torch.diag_embed(v)


def rtril(M: Tensor, diagonal: int = 0, upper: bool = False) -> Tensor:
    """Return the lower, or upper, triangles of matrices."""
    return M.triu(diagonal) if upper else M.tril(diagonal)


def iter_plates_to_shape(shape: Sequence[int]) -> Iterator[Any]:
    """Yield plates of the sizes of a shape, from the right."""
    for index, size in enumerate(reversed(shape)):
        yield plate(f"plate_{index}", size)
