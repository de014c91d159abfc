"""Estimate covariances from draws that come one by one."""

from __future__ import annotations

import torch
from torch import Tensor


def _shrunk(covariance: Tensor, count: int) -> tuple[Tensor, float]:
    """Shrink a covariance towards 1e-3 times the identity, as Stan does; return the part to add, too."""
    return covariance * (count / (count + 5.0)), 1e-3 * (5.0 / (count + 5.0))


class WelfordCovariance:
    """Welford's (1962) running estimate of a covariance, or of variances only.

    :param diagonal: estimate variances only.
    """

    def __init__(self, diagonal: bool = True) -> None:
        self.diagonal = diagonal
        self.reset()

    def reset(self) -> None:
        """Forget all draws."""
        self.n_samples = 0
        self._mean: Tensor | float = 0.0
        self._products: Tensor | float = 0.0

    def update(self, sample: Tensor) -> None:
        """Take in a vector."""
        self.n_samples += 1
        before = sample - self._mean
        self._mean = self._mean + before / self.n_samples
        after = sample - self._mean
        self._products = self._products + (before * after if self.diagonal else torch.outer(after, before))

    def get_covariance(self, regularize: bool = True) -> Tensor:
        """Return the estimate, by default shrunk for few draws.

        :raises ValueError: after less than two draws.
        """
        if self.n_samples < 2 or not isinstance(self._products, Tensor):
            raise ValueError(f"a covariance needs two draws or more, got {self.n_samples}")
        covariance = self._products / (self.n_samples - 1)
        if not regularize:
            return covariance
        covariance, more = _shrunk(covariance, self.n_samples)
        return covariance + (more if self.diagonal else more * torch.eye(len(covariance)).to(covariance))


class WelfordArrowheadCovariance:
    """A running estimate of the leading rows of a covariance and of its remaining diagonal.

    :param head_size: number of leading rows.
    """

    def __init__(self, head_size: int = 0) -> None:
        self.head_size = head_size
        self.reset()

    def reset(self) -> None:
        """Forget all draws."""
        self.n_samples = 0
        self._mean: Tensor | float = 0.0
        self._top: Tensor | float = 0.0
        self._bottom: Tensor | float = 0.0

    def update(self, sample: Tensor) -> None:
        """Take in a vector."""
        self.n_samples += 1
        before = sample - self._mean
        self._mean = self._mean + before / self.n_samples
        after = sample - self._mean
        head = self.head_size
        self._top = self._top + torch.outer(after[:head], before)
        self._bottom = self._bottom + before[head:] * after[head:]

    def get_covariance(self, regularize: bool = True) -> tuple[Tensor, Tensor]:
        """Return the leading rows and the rest of the diagonal, by default shrunk for few draws.

        :raises ValueError: after less than two draws.
        """
        if self.n_samples < 2 or not isinstance(self._top, Tensor) or not isinstance(self._bottom, Tensor):
            raise ValueError(f"a covariance needs two draws or more, got {self.n_samples}")
        top, bottom = (each / (self.n_samples - 1) for each in (self._top, self._bottom))
        if not regularize:
            return top, bottom
        (top, more), (bottom, _) = _shrunk(top, self.n_samples), _shrunk(bottom, self.n_samples)
        return top + more * torch.eye(*top.shape).to(top), bottom + more
