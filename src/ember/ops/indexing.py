"""Index tensors by tensors that carry batch dims, as enumerated values do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def vindex(tensor: Tensor, args: Any) -> Tensor:
    """Return ``tensor[args]`` with all index tensors broadcast together; batch dims end up on the left.

    Every index that is a tensor or an int indexes its own dim of ``tensor``, and all of them broadcast; a
    slice ``:`` keeps a dim as an event dim, on the right of the result; a leading ``...`` stands for batch
    dims of ``tensor``, which broadcast with the indices: ``vindex(x, (..., i, j))`` is elementwise in them.
    Enumerated values, which have further dims on the left, thus index as single values do.

    :param tensor: what to index.
    :param args: an index, or a tuple of indices: tensors, ints, ``slice(None)``, and a leading ``...``.
    :raises ValueError: for other slices, an ellipsis that does not lead, or too many indices.
    """
    if not isinstance(args, tuple):
        return tensor[args]
    if not args:
        return tensor
    if any(arg is Ellipsis for arg in args[1:]):
        raise ValueError("vindex: an ellipsis is only offered as the first index")
    indices = list(args)
    if indices[0] is Ellipsis:
        indices = indices[1:]
        batch = tensor.ndim - len(indices)
    else:
        batch = 0
    if batch < 0 or len(indices) > tensor.ndim:
        raise ValueError(
            f"vindex: {len(indices)} indices for a tensor of {tensor.ndim} dims, shape {tuple(tensor.shape)}"
        )
    indices.extend([slice(None)] * (tensor.ndim - batch - len(indices)))
    events = sum(isinstance(index, slice) for index in indices)
    complete: list[Tensor] = []
    # A batch dim of the tensor stands left of the event dims that remain.
    for position in range(batch):
        size = tensor.shape[position]
        places = torch.arange(size, device=tensor.device)
        complete.append(places.reshape((-1,) + (1,) * (batch - 1 - position + events)))
    remaining = events
    for position, index in enumerate(indices, start=batch):
        if isinstance(index, slice):
            if index != slice(None):
                raise ValueError(f"vindex: only full slices ':' are offered, got {index}")
            remaining -= 1
            places = torch.arange(tensor.shape[position], device=tensor.device)
            complete.append(places.reshape((-1,) + (1,) * remaining))
        elif isinstance(index, int):
            complete.append(torch.tensor(index, device=tensor.device))
        else:
            if not isinstance(index, Tensor):
                index = torch.as_tensor(index, device=tensor.device)
            complete.append(index.reshape(index.shape + (1,) * events))
    result: Tensor = tensor[tuple(complete)]
    return result


def index(tensor: Tensor, args: Any) -> Tensor:
    """Return ``tensor[args]``, where indices may also be nested tuples of indices.

    :param tensor: what to index.
    :param args: an index, or a tuple of indices and tuples: ``index(x, (..., (i, j)))`` is ``x[..., i, j]``.
    """
    result: Tensor = tensor[tuple(_flat(args)) if isinstance(args, tuple) else args]
    return result


def _flat(args: tuple[Any, ...]) -> Iterator[Any]:
    for arg in args:
        if isinstance(arg, tuple):
            yield from _flat(arg)
        else:
            yield arg


class Index:
    """Offer :func:`index` by square brackets: ``Index(x)[..., (i, j)]``."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __getitem__(self, args: Any) -> Tensor:
        return index(self._tensor, args)


class Vindex:
    """Offer :func:`vindex` by square brackets: ``Vindex(x)[..., i, j, :]``."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def __getitem__(self, args: Any) -> Tensor:
        return vindex(self._tensor, args)
