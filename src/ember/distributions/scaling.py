"""Scale and mask log densities without touching what is masked out."""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .shapes import broadcast_shape


def is_identically_zero(x: Any) -> bool:
    """Say whether ``x`` is a number equal to zero (tensors never are: their values are not read)."""
    return not isinstance(x, Tensor) and isinstance(x, numbers.Number) and x == 0


def is_identically_one(x: Any) -> bool:
    """Say whether ``x`` is a number equal to one (tensors never are: their values are not read)."""
    return not isinstance(x, Tensor) and isinstance(x, numbers.Number) and x == 1


def scale_and_mask(tensor: Any, scale: Any = 1.0, mask: bool | Tensor | None = None) -> Any:
    """Return ``tensor * scale`` where ``mask`` holds and zero elsewhere.

    :param tensor: a tensor or a number; the number zero stays as it is.
    :param scale: a positive number or tensor.
    :param mask: None or True (all), False (nothing) or a bool tensor that broadcasts with ``tensor``.
    """
    if (mask is None and is_identically_one(scale)) or is_identically_zero(tensor):
        return tensor
    if mask is None or mask is True:
        return tensor if is_identically_one(scale) else tensor * scale
    if mask is False:
        return torch.zeros_like(tensor) if isinstance(tensor, Tensor) else 0.0
    scaled = tensor if is_identically_one(scale) else tensor * scale
    if not isinstance(scaled, Tensor):
        scaled = torch.full(broadcast_shape(mask.shape), float(scaled), device=mask.device)
    return torch.where(mask, scaled, 0.0)


class ScoreParts(NamedTuple):
    """Parts of a log probability by their role in a score-function gradient estimator.

    The zero of ``score_function`` and ``entropy_term`` is the number 0.
    """

    log_prob: Any
    score_function: Any
    entropy_term: Any

    def scale_and_mask(self, scale: Any = 1.0, mask: bool | Tensor | None = None) -> ScoreParts:
        """Scale and mask ``log_prob`` and ``entropy_term``; ``score_function`` is masked, never scaled.

        The score function multiplies a cost that is scaled already.
        """
        if mask is None and is_identically_one(scale):
            return self
        return ScoreParts(
            scale_and_mask(self.log_prob, scale, mask),
            scale_and_mask(self.score_function, 1.0, mask),
            scale_and_mask(self.entropy_term, scale, mask),
        )
