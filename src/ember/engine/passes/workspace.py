"""Give loops memory to write to whose first content does not matter, at no cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_library = torch.library.Library("ember", "FRAGMENT")
_library.define("workspace(Tensor like, int[] size) -> Tensor")
_library.impl("workspace", lambda like, size: like.new_zeros(size), "CPU")
_library.impl("workspace", lambda like, size: like.new_empty(size), "Meta")


def workspace(like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return a tensor of ``shape`` with the dtype of ``like``; what it holds must not be read.

    Machine code does not clear it, so that a carry of a loop can start with it for nothing.
    """
    return torch.ops.ember.workspace(like, list(shape))
