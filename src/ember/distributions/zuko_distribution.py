"""Use a distribution of the zuko library at a sample site."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .parameters import table
from .torch_distribution import TorchDistribution


class ZukoToPyro(TorchDistribution):
    """A distribution that zuko's flows return, as one of ember's::

        flow = zuko.flows.NSF(features=2, context=3)
        ember.module("flow", flow)
        ember.sample("x", ZukoToPyro(flow(context)))

    :param dist: a distribution of torch's interface. One with ``rsample_and_log_prob`` computes the density
        of a draw in the same pass.
    """

    arg_constraints: dict[str, Any] = table()

    def __init__(self, dist: Any) -> None:
        self.dist = dist
        self._drawn: tuple[Any, Any] = (None, None)
        super().__init__(dist.batch_shape, dist.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws carry gradients."""
        return bool(self.dist.has_rsample)

    @property
    def support(self) -> Any:
        """The support of the distribution."""
        return self.dist.support

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw with gradients, ``sample_shape + batch_shape + event_shape``."""
        if not hasattr(self.dist, "rsample_and_log_prob"):
            return self.dist.rsample(torch.Size(sample_shape))
        self._drawn = self.dist.rsample_and_log_prob(torch.Size(sample_shape))
        return self._drawn[0]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw without gradients."""
        with torch.no_grad():
            return (
                self.rsample(sample_shape) if self.has_rsample else self.dist.sample(torch.Size(sample_shape))
            )

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density, ``batch_shape``."""
        drawn, log_prob = self._drawn
        return log_prob if drawn is value else self.dist.log_prob(value)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ZukoToPyro:
        """Return the distribution with a larger batch."""
        return ZukoToPyro(self.dist.expand(torch.Size(batch_shape)))
