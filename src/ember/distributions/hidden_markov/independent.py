"""Join univariate chains of hidden states into one of several coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ...errors import message
from ..parameters import table
from ..torch_distribution import OwnOrBase, TorchDistribution

_EMPTY = torch.Size()


class IndependentHMM(TorchDistribution):
    """The rightmost batch dim of a chain with ``obs_dim`` 1, counted as the dim of the observations.

    :param base_dist: a chain of batch shape ``batch + (n,)`` and event shape ``(T, 1)``.
    :raises ValueError: for other shapes.
    """

    arg_constraints: dict[str, Any] = table()
    has_rsample = OwnOrBase()

    def __init__(self, base_dist: Any) -> None:
        if not base_dist.batch_shape or len(base_dist.event_shape) != 2 or base_dist.event_shape[1] != 1:
            raise ValueError(
                message(
                    "IndependentHMM takes a batch of univariate chains.",
                    expected="batch_shape (..., n) and event_shape (T, 1)",
                    actual=f"batch_shape {tuple(base_dist.batch_shape)}, "
                    f"event_shape {tuple(base_dist.event_shape)}",
                )
            )
        self.base_dist = base_dist
        event_shape = base_dist.event_shape[:1] + base_dist.batch_shape[-1:]
        TorchDistribution.__init__(self, base_dist.batch_shape[:-1], event_shape)

    @constraints.dependent_property(is_discrete=False, event_dim=2)
    def support(self) -> Any:
        return self.base_dist.support

    @property
    def duration(self) -> int | None:
        """Number of time steps, or None if sequences of any length can be scored."""
        return self.base_dist.duration

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        return self._around(self.base_dist.expand(torch.Size(batch_shape) + self.base_dist.batch_shape[-1:]))

    def _around(self, base_dist: Any) -> Any:
        new = type(self)(base_dist)
        for name in ("has_rsample", "_validate_args"):
            if name in self.__dict__:
                new.__dict__[name] = self.__dict__[name]
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist.log_prob(value.mT.unsqueeze(-1)).sum(-1)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self.base_dist.rsample(sample_shape).squeeze(-1).mT

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self.base_dist.sample(sample_shape).squeeze(-1).mT

    def prefix_condition(self, data: Tensor) -> IndependentHMM:
        """Return the distribution of the rest of a sequence, given its beginning.

        :param data: the first ``t < duration`` observations, ``batch + (t, n)``.
        """
        return self._around(self.base_dist.prefix_condition(data.mT.unsqueeze(-1)))
