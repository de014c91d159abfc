"""Observe a Gaussian process with Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor

import ember.distributions as dist
from ember.contrib.gp.likelihoods.likelihood import Likelihood
from ember.distributions import constraints
from ember.nn import PyroParam


class Gaussian(Likelihood):
    """The likelihood of y = f + noise.

    f is summed out: y is Normal(f_loc, √(f_var + variance)).

    :param variance: initial value of the noise's variance, a parameter; by default 1.
    """

    variance: Tensor

    def __init__(self, variance: Tensor | None = None) -> None:
        super().__init__()
        value = torch.tensor(1.0) if variance is None else variance
        self.variance = PyroParam(value, constraint=constraints.positive)  # type: ignore[assignment]

    def forward(self, f_loc: Tensor, f_var: Tensor, y: Tensor | None = None) -> Tensor:
        """Draw or observe y, as :meth:`Likelihood.forward`."""
        return self._observe(dist.Normal(f_loc, (f_var + self.variance).sqrt()), y)
