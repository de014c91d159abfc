"""Mark tensors whose marginals or draws are wanted after a sum of products."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def require_backward(tensor: Tensor) -> None:
    """Mark an operand of :func:`~ember.ops.contract.einsum`.

    Of a result with the backend ``torch_marginal``, ``torch_map`` or ``torch_sample``, ``_pyro_backward()``
    sets ``_pyro_backward_result`` of each marked operand: the logarithm of its marginal (of its own shape,
    not normalised); or the indices of its dims at the maximum or at a draw, stacked on the left of its
    plates, in the order that ``_pyro_sample_dims`` of the result says.
    """
    marked: Any = tensor
    marked._pyro_backward = None


def is_marked(tensor: Any) -> bool:
    """Whether an operand has been marked."""
    return hasattr(tensor, "_pyro_backward")
