"""Turn indexing by masks into indexing by positions or into selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from ember.engine.recording.recorder import DispatchRecorder

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
_MASKS = (torch.bool, torch.uint8)


def has_mask(indices: Any) -> bool:
    """Say whether one of the indices is a mask."""
    return any(isinstance(each, torch.Tensor) and each.dtype in _MASKS for each in indices)


def without_constant_masks(recorder: DispatchRecorder, indices: Any) -> list[Any]:
    """Replace the masks that do not depend on the inputs by the positions where they hold."""
    found: list[Any] = []
    for each in indices:
        if isinstance(each, torch.Tensor) and each.dtype in _MASKS and recorder.view_of(each).is_constant:
            found.extend(
                recorder.wrap(None, part) for part in recorder.view_of(each).concrete.nonzero().unbind(1)
            )
        else:
            found.append(each)
    return found


def put_by_mask(
    recorder: DispatchRecorder, op: str, x: Any, indices: Any, values: Any, accumulate: bool
) -> Any:
    """Write ``values`` where a mask holds, if they are the same for all its places."""
    mask, *rest = indices
    if rest or mask is None or values.dim() > x.dim() - mask.dim():
        recorder.refuse("which elements are written to depends on a value that depends on the inputs", op)
    mask = mask.to(torch.bool).reshape(mask.shape + (1,) * (x.dim() - mask.dim()))
    return torch.where(mask, x + values if accumulate else values, x)
