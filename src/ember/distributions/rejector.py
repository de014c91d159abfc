"""Draw from a density by accepting or rejecting the draws of another distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import message
from .parameters import table
from .scaling import ScoreParts
from .torch_distribution import TorchDistribution

_EMPTY = torch.Size()


class Rejector(TorchDistribution):
    """The distribution of those draws of ``propose`` that are accepted.

    Gradients combine the path through the proposal with the score of the acceptance (Naesseth, Ruiz,
    Linderman & Blei 2017, Reparameterization gradients through acceptance-rejection sampling algorithms).

    :param propose: a distribution with reparameterised draws.
    :param log_prob_accept: value → log probability of acceptance, of the batch shape.
    :param log_scale: log of the overall probability of acceptance, of the batch shape.
    :param batch_shape: by default that of ``propose``.
    :param event_shape: by default that of ``propose``.
    :raises ValueError: if these are not the proposal's.
    """

    arg_constraints: dict[str, Any] = table()
    has_rsample = True

    def __init__(
        self,
        propose: Any,
        log_prob_accept: Callable[[Tensor], Tensor],
        log_scale: Tensor | float,
        *,
        batch_shape: Sequence[int] | None = None,
        event_shape: Sequence[int] | None = None,
    ) -> None:
        for name, given in (("batch_shape", batch_shape), ("event_shape", event_shape)):
            if given is not None and tuple(given) != tuple(getattr(propose, name)):
                raise ValueError(
                    message(
                        f"The {name} of a Rejector is that of its proposal.",
                        expected=tuple(getattr(propose, name)),
                        actual=tuple(given),
                    )
                )
        self.propose = propose
        self.log_prob_accept = log_prob_accept
        self.log_scale = log_scale
        TorchDistribution.__init__(self, propose.batch_shape, propose.event_shape)

    @property
    def support(self) -> Any:
        """Support of the proposal."""
        return self.propose.support

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        sample_shape = torch.Size(sample_shape)
        value = self.propose.rsample(sample_shape)
        open_ = ~self._accepted(value)
        while bool(open_.any()):
            again = self.propose.rsample(sample_shape)
            taken = open_ & self._accepted(again)
            value = torch.where(taken.reshape(taken.shape + (1,) * self.event_dim), again, value)
            open_ = open_ & ~taken
        return value

    @torch.no_grad()
    def _accepted(self, value: Tensor) -> Tensor:
        log_probability = self.log_prob_accept(value)
        return torch.rand_like(log_probability).log() < log_probability

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.propose.log_prob(value) + self.log_prob_accept(value) - self.log_scale

    def score_parts(self, x: Tensor, *args: Any, **kwargs: Any) -> ScoreParts:
        """Return the log probability with the score of the acceptance, and the entropy term of the path."""
        if not self.has_rsample:
            return super().score_parts(x, *args, **kwargs)
        acceptance = self.log_prob_accept(x) - self.log_scale
        log_prob = self.propose.log_prob(x) + acceptance
        return ScoreParts(log_prob, acceptance, log_prob)
