"""Declare conditional independence: the plate, as a batch dimension or as a loop."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ember.poutine.broadcast_messenger import broadcast_site
from ember.poutine.messenger import Messenger, block_messengers
from ember.poutine.runtime import Message, handler_stack
from ember.poutine.subsample_messenger import SubsampleMessenger


class PlateMessenger(SubsampleMessenger):
    """Declare conditional independence of the sites inside.

    ``with plate(name, size) as ind:`` allocates a batch dimension, expands the distributions inside over it
    and yields the indices, a long tensor of shape ``(subsample_size,)`` (None without ``size``).
    ``for i in plate(name, size):`` yields ints, and sites of different iterations are independent.

    :param name: name of the plate; shares the namespace of sample sites.
    :param size: number of independent elements. None only claims a dimension.
    :param subsample_size: draw a minibatch of this size; log probabilities inside are scaled by
        size / subsample_size.
    :param subsample: the indices of the minibatch, anything with ``len``.
    :param dim: negative batch dimension; by default the rightmost one that no enclosing plate uses.
    :param use_cuda: deprecated, use ``device``.
    :param device: device of the indices.
    :raises ValueError: for invalid sizes, a dim that is taken or not negative, or a plate entered twice.

    >>> import ember, torch
    >>> with ember.plate("data", 3) as ind:
    ...     x = ember.sample("x", ember.distributions.Normal(0.0, 1.0))
    >>> ind, x.shape
    (tensor([0, 1, 2]), torch.Size([3]))
    """

    def __init__(
        self,
        name: str,
        size: Any = None,
        subsample_size: Any = None,
        subsample: Any = None,
        dim: int | None = None,
        use_cuda: bool | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if use_cuda is not None:
            warnings.warn(
                "plate(use_cuda=...) is deprecated, use device='cuda' or device='cpu'",
                FutureWarning,
                stacklevel=2,
            )
        super().__init__(name, size, subsample_size, subsample, dim, use_cuda, device)

    def __enter__(self) -> torch.Tensor | None:
        super().__enter__()
        if not self._vectorized or self._indices is None:
            return None
        return self._indices

    def _process_message(self, msg: Message) -> None:
        super()._process_message(msg)
        if msg["type"] == "sample" and self._vectorized:
            broadcast_site(msg)


@contextmanager
def block_plate(name: str | None = None, dim: int | None = None, *, strict: bool = True) -> Iterator[None]:
    """Switch off one enclosing plate, found by its name or its dim.

    :param strict: whether it is an error that no such plate is active.
    :raises ValueError: unless exactly one of ``name`` and ``dim`` is given, or if no plate matches (strict).
    """
    if (name is None) == (dim is None):
        raise ValueError("block_plate needs exactly one of name and dim")

    def chosen(handler: Messenger) -> bool:
        if not isinstance(handler, PlateMessenger):
            return False
        return handler.name == name if dim is None else handler.dim == dim

    if strict and not any(chosen(handler) for handler in handler_stack()):
        what = f"name '{name}'" if dim is None else f"dim {dim}"
        raise ValueError(f"block_plate: no enclosing plate has {what}")
    with block_messengers(chosen):
        yield


@contextmanager
def plate_stack(prefix: str, sizes: Any, rightmost_dim: int = -1) -> Iterator[None]:
    """Open a contiguous stack of plates.

    :param prefix: the plates are named ``prefix_0``, ``prefix_1``, … from the right.
    :param sizes: sizes, read left to right as the resulting batch shape.
    :param rightmost_dim: negative dimension of the last size.
    :raises ValueError: if ``rightmost_dim`` is not negative.
    """
    if rightmost_dim >= 0:
        raise ValueError(f"plate_stack '{prefix}': rightmost_dim must be negative, got {rightmost_dim}")
    with ExitStack() as stack:
        for index, size in enumerate(reversed(tuple(sizes))):
            stack.enter_context(PlateMessenger(f"{prefix}_{index}", size, dim=rightmost_dim - index))
        yield
