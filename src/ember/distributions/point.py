"""Define the point mass, and the value of size zero that carries a log factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from .. import settings
from ..errors import message
from .parameters import NEGATIVE_INFINITY, ZERO, one, table
from .shapes import broadcast_shape
from .torch_distribution import TorchDistribution, expand_parameters
from .validation import check_parameters

_EMPTY = torch.Size()


class Delta(TorchDistribution):
    """All probability at one point; ``log_prob`` is ``log_density`` there and -inf elsewhere.

    :param v: the point, of shape ``batch_shape + event_shape``.
    :param log_density: log density at the point; a number or a tensor of the batch shape.
    :param event_dim: number of rightmost dims of ``v`` that are event dims.
    :raises ValueError: if ``event_dim`` exceeds ``v.dim()`` or ``log_density`` has another shape.
    """

    v: Tensor
    _log_density: Tensor | float
    has_rsample = True
    arg_constraints = table(v=constraints.dependent, log_density=constraints.real)

    def __init__(
        self,
        v: Tensor | float,
        log_density: Tensor | float = 0.0,
        event_dim: int = 0,
        validate_args: bool | None = None,
    ) -> None:
        v = one(v)
        split = v.dim() - event_dim
        if split < 0 or event_dim < 0:
            raise ValueError(
                message(
                    "Expected event_dim <= v.dim() in Delta.",
                    expected=f"a number from 0 to {v.dim()}, since v has shape {tuple(v.shape)}",
                    actual=event_dim,
                )
            )
        shape = v.shape
        state = self.__dict__
        state["_batch_shape"], state["_event_shape"] = shape[:split], shape[split:]
        state["v"] = v
        state["_log_density"] = log_density
        if isinstance(log_density, Tensor) and log_density.shape != shape[:split]:
            raise ValueError(
                message(
                    "Expected log_density of Delta to have the batch shape of v.",
                    expected=f"shape {tuple(shape[:split])}: v has {tuple(shape)}, event_dim {event_dim}",
                    actual=f"shape {tuple(log_density.shape)}",
                    fix="set event_dim, or expand log_density",
                )
            )
        if validate_args is not None:
            state["_validate_args"] = validate_args
        else:
            validate_args = settings.read("validate_distributions_pyro")
        if validate_args and isinstance(log_density, Tensor):
            check_parameters(self)

    @property
    def log_density(self) -> Tensor:
        """Log density at the point, of the batch shape."""
        density = self._log_density
        if isinstance(density, Tensor):
            return density
        dtype = self.v.dtype if self.v.dtype.is_floating_point else torch.get_default_dtype()
        return torch.full(self._batch_shape, density, dtype=dtype, device=self.v.device)

    @constraints.dependent_property
    def support(self) -> Any:
        n = len(self._event_shape)
        return constraints.independent(constraints.real, n) if n else constraints.real

    @property
    def mean(self) -> Tensor:
        return self.v

    @property
    def mode(self) -> Tensor:
        return self.v

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.v)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        new = object.__new__(type(self)) if _instance is None else _instance
        state = new.__dict__
        state.update(self.__dict__)
        state["_batch_shape"] = batch_shape = torch.Size(batch_shape)
        state["v"] = self.v.expand(batch_shape + self._event_shape)
        if isinstance(self._log_density, Tensor):
            state["_log_density"] = self._log_density.expand(batch_shape)
        return new

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self.v.expand(self._extended_shape(sample_shape)) if sample_shape else self.v

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        if value is self.v:
            return self.log_density
        equal = self.v == value
        if self._event_shape:
            equal = equal.flatten(-len(self._event_shape)).all(-1)
        density = self._log_density
        if not isinstance(density, Tensor):
            dtype = self.v.dtype
            density = ZERO[dtype] if density == 0 else self.log_density
            return torch.where(equal, density, NEGATIVE_INFINITY[dtype])
        return torch.where(equal, density, NEGATIVE_INFINITY[density.dtype])


class Unit(TorchDistribution):
    """The only value of size zero, with the unnormalised log probability ``log_factor``.

    :param log_factor: log weight, of the batch shape.
    :param has_rsample: whether the factor counts as pathwise; if given it is an instance attribute.
    """

    log_factor: Tensor
    arg_constraints = table(log_factor=constraints.real)
    support = constraints.independent(constraints.real, 1)
    parameter_dims = table(log_factor=0)
    expand = expand_parameters

    def __init__(
        self,
        log_factor: Tensor | float,
        *,
        has_rsample: bool | None = None,
        validate_args: bool | None = None,
    ) -> None:
        state = self.__dict__
        state["log_factor"] = log_factor = one(log_factor)
        state["_batch_shape"] = log_factor.shape
        state["_event_shape"] = torch.Size((0,))
        if has_rsample is not None:
            state["has_rsample"] = has_rsample
        if validate_args is not None:
            state["_validate_args"] = validate_args
        else:
            validate_args = settings.read("validate_distributions_pyro")
        if validate_args:
            check_parameters(self)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        return self.log_factor.new_empty(self._extended_shape(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        shape = value.shape[:-1]
        if shape == self._batch_shape:
            return self.log_factor
        return self.log_factor.expand(broadcast_shape(self._batch_shape, shape))
