"""Give densities that are tuples of tensors their batch shape, and every change of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..shapes import broadcast_shape

Self = TypeVar("Self", bound="Batched")


class Batched:
    """A density whose parameters have a common batch shape, up to broadcasting.

    Parameters keep their own batch dims as long as possible, so that what is shared is computed once.
    """

    # Names of the parameters in the order of the constructor, with their numbers of event dims.
    fields: ClassVar[dict[str, int]]

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the parameters in the order of the constructor."""
        return tuple(getattr(self, name) for name in self.fields)

    @property
    def batch_shape(self) -> torch.Size:
        """Shape that the batch dims of all parameters broadcast to."""
        sizes = [
            tensor.shape[: tensor.dim() - dims]
            for tensor, dims in zip(self.tensors(), self.fields.values(), strict=True)
        ]
        return sizes[0] if all(size == sizes[0] for size in sizes) else broadcast_shape(*sizes)

    def expand(self: Self, batch_shape: Sequence[int]) -> Self:
        """Stretch every parameter to ``batch_shape``."""
        return self.map_tensors(lambda tensor, dims: tensor.expand((*batch_shape, *_event(tensor, dims))))

    def reshape(self: Self, batch_shape: Sequence[int]) -> Self:
        """Give the batch another shape of as many elements."""
        return self.expand(self.batch_shape).map_tensors(
            lambda tensor, dims: tensor.reshape((*batch_shape, *_event(tensor, dims)))
        )

    def __getitem__(self: Self, index: Any) -> Self:
        """Index the batch dims."""
        index = index if isinstance(index, tuple) else (index,)
        whole = self.expand(self.batch_shape)
        return whole.map_tensors(lambda tensor, dims: tensor[index + (slice(None),) * dims])

    @classmethod
    def cat(cls: type[Self], parts: Sequence[Self], dim: int = 0) -> Self:
        """Concatenate along a batch dim; a negative one counts from the right of the batch shape."""
        parts = [part.expand(part.batch_shape) for part in parts]
        if dim < 0:
            dim += len(parts[0].batch_shape)
        return cls(*(torch.cat(each, dim) for each in zip(*(p.tensors() for p in parts), strict=True)))

    def map_tensors(self: Self, change: Any) -> Self:
        """Apply ``change(tensor, number of event dims)`` to every parameter."""
        return type(self)(*(change(getattr(self, name), dims) for name, dims in self.fields.items()))


def _event(tensor: Tensor, dims: int) -> torch.Size:
    return tensor.shape[tensor.dim() - dims :]
