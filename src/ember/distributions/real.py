"""Define families on the whole real line."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import settings
from .parameters import Parameter, pair
from .torch_distribution import TorchDistribution, expand_parameters
from .validation import check_parameters

_EMPTY = torch.Size()
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Normal(torch.distributions.Normal, TorchDistribution):
    """The Gaussian distribution.

    :param loc: mean, real.
    :param scale: standard deviation, positive.
    """

    parameter_dims = {"loc": 0, "scale": 0}
    expand = expand_parameters

    def __init__(self, loc: Parameter, scale: Parameter, validate_args: bool | None = None) -> None:
        state = self.__dict__
        state["loc"], state["scale"] = loc, scale = pair(loc, scale)
        state["_batch_shape"] = loc.shape
        state["_event_shape"] = _EMPTY
        if validate_args is not None:
            state["_validate_args"] = validate_args
        else:
            validate_args = settings.read("validate_distributions_pyro")
        if validate_args:
            check_parameters(self)

    def rsample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        loc = self.loc
        noise = torch.randn(self._extended_shape(sample_shape), dtype=loc.dtype, device=loc.device)
        return torch.addcmul(loc, noise, self.scale)

    def sample(self, sample_shape: Sequence[int] = _EMPTY) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return torch.addcmul(-_HALF_LOG_TWO_PI - self.scale.log(), z, z, value=-0.5)
