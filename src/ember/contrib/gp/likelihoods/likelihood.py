"""Say what a likelihood of a Gaussian process is."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ember import sample
from ember.contrib.gp.parameterized import Parameterized


class Likelihood(Parameterized):
    """Base of likelihoods; a subclass defines :meth:`forward`."""

    def forward(self, f_loc: Tensor, f_var: Tensor, y: Tensor | None = None) -> Tensor:
        """Draw or observe y given that f is Normal(f_loc, √f_var), at a sample site ``y`` of this module.

        :param f_loc: means, ``latent_shape + (N,)``.
        :param f_var: variances, of that shape.
        :param y: observations, or None to draw them.
        """
        raise NotImplementedError

    def _observe(self, distribution: Any, y: Tensor | None) -> Tensor:
        """Run the sample statement; an observation is one event, whatever dims it has."""
        if y is not None:
            missing = y.dim() - len(distribution.batch_shape)
            distribution = distribution.expand_by(y.shape[:missing]).to_event(y.dim())
        return sample(self._pyro_get_fullname("y"), distribution, obs=y)
