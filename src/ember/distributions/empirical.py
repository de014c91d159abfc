"""Define the distribution of weighted atoms, and the flat one that cannot be drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..errors import message
from .discrete import draw_index
from .parameters import table
from .shapes import broadcast_shape
from .torch_distribution import TorchDistribution

_EMPTY = torch.Size()


class Empirical(TorchDistribution):
    """Weighted atoms along the last dim of ``log_weights``.

    With ``log_weights`` of shape ``batch_shape + (n,)``, ``samples`` has shape
    ``batch_shape + (n,) + event_shape``; weights need not be normalised.

    :raises ValueError: if ``log_weights`` does not match the leftmost dims of ``samples``.
    """

    arg_constraints: dict[str, Any] = table()
    support = constraints.real
    has_enumerate_support = True

    def __init__(self, samples: Tensor, log_weights: Tensor, validate_args: bool | None = None) -> None:
        dims = log_weights.dim()
        if dims < 1 or samples.shape[:dims] != log_weights.shape:
            raise ValueError(
                message(
                    "The shape of log_weights must match the leftmost shape of samples in Empirical.",
                    expected=f"at least one dim, and shape {tuple(samples.shape[:dims])}",
                    actual=f"log_weights {tuple(log_weights.shape)}, samples {tuple(samples.shape)}",
                )
            )
        self._samples = samples
        self._log_weights = log_weights
        self._aggregation_dim = dims - 1
        TorchDistribution.__init__(self, log_weights.shape[:-1], samples.shape[dims:], validate_args)

    @property
    def sample_size(self) -> int:
        """Number of atoms."""
        return self._log_weights.shape[-1]

    @property
    def log_weights(self) -> Tensor:
        """Unnormalised log weights."""
        return self._log_weights

    @property
    def _weights(self) -> Tensor:
        """Normalised weights, broadcast over the event dims."""
        weights = self._log_weights.softmax(-1)
        return weights.reshape(weights.shape + (1,) * len(self._event_shape))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = object.__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(self.__dict__)
        batch_shape = torch.Size(batch_shape)
        atoms = self._log_weights.shape[-1:]
        new._batch_shape = batch_shape
        new._aggregation_dim = len(batch_shape)
        new._log_weights = self._log_weights.expand(batch_shape + atoms)
        new._samples = self._samples.expand(batch_shape + atoms + self._event_shape)
        return new

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        """Draw atoms with replacement; shape ``sample_shape + batch_shape + event_shape``."""
        with torch.no_grad():
            sample_shape = torch.Size(sample_shape)
            index = draw_index(self._log_weights.softmax(-1), sample_shape)
            size = index.shape + (1,) * (1 + len(self._event_shape))
            index = index.reshape(size).expand((*index.shape, 1, *self._event_shape))
            atoms = self._samples.expand(sample_shape + self._samples.shape)
            return atoms.gather(len(index.shape) - 1 - len(self._event_shape), index).squeeze(
                -1 - len(self._event_shape)
            )

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log weight of the atoms equal to ``value``.

        :raises ValueError: if the rightmost shape of ``value`` is not the event shape.
        """
        shape = self._event_shape
        if value.shape[value.dim() - len(shape) :] != shape:
            raise ValueError(
                message(
                    "Empirical.log_prob takes a value of the event's shape.",
                    expected=f"value.shape ending in {tuple(shape)}",
                    actual=tuple(value.shape),
                )
            )
        equal = self._samples == value.unsqueeze(-1 - len(self._event_shape))
        if self._event_shape:
            equal = equal.flatten(-len(self._event_shape)).all(-1)
        weights = self._log_weights.log_softmax(-1)
        return torch.where(equal, weights, -torch.inf).logsumexp(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return the atoms along a new leftmost dim; they differ between batches in any case."""
        return self._samples.movedim(self._aggregation_dim, 0)

    @property
    def mean(self) -> Tensor:
        self._refuse_integers("mean")
        return (self._weights * self._samples).sum(self._aggregation_dim)

    @property
    def variance(self) -> Tensor:
        self._refuse_integers("variance")
        deviation = self._samples - self.mean.unsqueeze(self._aggregation_dim)
        return (self._weights * deviation.square()).sum(self._aggregation_dim)

    def _refuse_integers(self, what: str) -> None:
        if not self._samples.dtype.is_floating_point:
            raise ValueError(f"Empirical has no {what} for samples of dtype {self._samples.dtype}")


class ImproperUniform(TorchDistribution):
    """A density of one everywhere on ``support``; it cannot be drawn from.

    :param support: any constraint.
    :param batch_shape: shape of the batch.
    :param event_shape: shape of one value.
    """

    arg_constraints: dict[str, Any] = table()

    def __init__(
        self,
        support: Any,
        batch_shape: Sequence[int],
        event_shape: Sequence[int],
        validate_args: bool | None = None,
    ) -> None:
        event_shape = torch.Size(event_shape)
        extra = len(event_shape) - support.event_dim
        if extra < 0:
            raise ValueError(
                f"ImproperUniform on {support!r} needs at least {support.event_dim} event dims, "
                f"got event_shape {tuple(event_shape)}"
            )
        self._support = constraints.independent(support, extra) if extra else support
        TorchDistribution.__init__(self, torch.Size(batch_shape), event_shape, validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        return self._support

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = object.__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(self.__dict__)
        new._batch_shape = torch.Size(batch_shape)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        shape = broadcast_shape(self._batch_shape, value.shape[: value.dim() - self.event_dim])
        dtype = value.dtype if value.dtype.is_floating_point else torch.get_default_dtype()
        return torch.zeros((), dtype=dtype, device=value.device).expand(shape)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        raise NotImplementedError(
            message(
                "ImproperUniform cannot be drawn from: its density is not a probability.",
                expected="a site whose value inference provides",
                fix="use MCMC or a guide with init_to_feasible or init_to_value, or give a proper prior",
            )
        )
