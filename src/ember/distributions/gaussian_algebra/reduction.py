"""Combine a sequence of elements along time in O(log T) depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Fields = tuple[Tensor, ...]


def reduce_time(
    fields: Sequence[Tensor],
    event_dims: Sequence[int],
    length: int,
    combine: Callable[[Fields, Fields], Fields],
) -> Fields:
    """Combine the elements of a sequence, neighbours first, by an associative operation.

    What is left over in a level of odd length goes to an element of its own at the end, so that the others
    stay alike: a tensor that is shared by all times is so in each level, and enters ``combine`` once.

    :param fields: tensors that make up the elements, ``batch + (T or 1,) + event``; 1 stands for all times.
    :param event_dims: number of event dims of each.
    :param length: T.
    :param combine: takes fields of left and right elements, and returns those of their combination.
    :returns: the fields of the combination, without the dim of time.
    """
    current = tuple(fields)
    times = tuple(-1 - dims for dims in event_dims)
    tail: Fields | None = None
    while length > 1:
        length, odd = divmod(length, 2)
        if odd:
            last = tuple(t.narrow(d, t.shape[d] - 1, 1) for t, d in zip(current, times, strict=True))
            tail = last if tail is None else combine(last, tail)
        pairs = [neighbours(t, d, 2 * length) for t, d in zip(current, times, strict=True)]
        current = combine(tuple(left for left, _ in pairs), tuple(right for _, right in pairs))
    if tail is not None:
        current = combine(current, tail)
    return tuple(t.squeeze(d) for t, d in zip(current, times, strict=True))


def neighbours(tensor: Tensor, dim: int, length: int) -> tuple[Tensor, Tensor]:
    """Return the elements at even and odd places among the first ``length`` along ``dim``.

    Where the dim has size 1, both are the tensor itself.
    """
    if tensor.shape[dim] == 1:
        return tensor, tensor
    if tensor.shape[dim] != length:
        tensor = tensor.narrow(dim, 0, length)
    # Counted from the right, the pairs' dim lies where the dim of time was.
    left, right = tensor.unflatten(dim, (length // 2, 2)).unbind(dim)
    return left, right


def lean(tensor: Tensor, event_dims: int) -> Tensor:
    """Return the tensor with batch dims along which it was only stretched shrunk to size 1."""
    for dim in range(tensor.dim() - event_dims):
        if tensor.shape[dim] > 1 and tensor.stride(dim) == 0:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


def with_time(tensor: Tensor, event_dims: int) -> Tensor:
    """Return the tensor with a dim of time: of size 1 if it had none, or was only stretched along it."""
    return tensor.unsqueeze(0) if tensor.dim() == event_dims else lean(tensor, event_dims)
