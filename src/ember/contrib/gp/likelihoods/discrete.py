"""Observe a Gaussian process through labels or counts, with draws of the process."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import ember.distributions as dist
from ember.contrib.gp.likelihoods.likelihood import Likelihood
from ember.errors import message

Response = Callable[[Tensor], Tensor]


def draw(f_loc: Tensor, f_var: Tensor) -> Tensor:
    """Return a pathwise draw of f; it is no sample site, since its distribution is known to the guide."""
    return dist.Normal(f_loc, f_var.sqrt()).rsample()


class Binary(Likelihood):
    """The likelihood of labels 0 and 1: Bernoulli of a response to f.

    :param response_function: gives probabilities, by default the logistic function.
    """

    def __init__(self, response_function: Response | None = None) -> None:
        super().__init__()
        self.response_function = response_function

    def forward(self, f_loc: Tensor, f_var: Tensor, y: Tensor | None = None) -> Tensor:
        """Draw or observe y, as :meth:`Likelihood.forward`."""
        f = draw(f_loc, f_var)
        if self.response_function is None:
            return self._observe(dist.Bernoulli(logits=f), y)
        return self._observe(dist.Bernoulli(self.response_function(f)), y)


class MultiClass(Likelihood):
    """The likelihood of class labels: Categorical of a response to ``num_classes`` processes.

    :param num_classes: number of classes, the size of the last latent dim.
    :param response_function: gives weights of the classes along the last dim, by default softmax.
    """

    def __init__(self, num_classes: int, response_function: Response | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.response_function = response_function

    def forward(self, f_loc: Tensor, f_var: Tensor, y: Tensor | None = None) -> Tensor:
        """Draw or observe y, ``(N,)``, as :meth:`Likelihood.forward`.

        :raises ValueError: if there is not one process for each class.
        """
        if f_loc.dim() < 2 or f_loc.shape[-2] != self.num_classes:
            raise ValueError(
                message(
                    "There is not one latent process for each class.",
                    expected=f"latent_shape ({self.num_classes},)",
                    actual=f"latent_shape {tuple(f_loc.shape[:-1])}",
                    fix=f"give the model latent_shape=torch.Size([{self.num_classes}])",
                )
            )
        f = draw(f_loc, f_var).mT
        if self.response_function is None:
            return self._observe(dist.Categorical(logits=f), y)
        return self._observe(dist.Categorical(probs=self.response_function(f)), y)


class Poisson(Likelihood):
    """The likelihood of counts: Poisson of a response to f.

    :param response_function: gives rates, by default the exponential function.
    """

    def __init__(self, response_function: Response | None = None) -> None:
        super().__init__()
        self.response_function = response_function

    def forward(self, f_loc: Tensor, f_var: Tensor, y: Tensor | None = None) -> Tensor:
        """Draw or observe y, as :meth:`Likelihood.forward`."""
        response = torch.exp if self.response_function is None else self.response_function
        return self._observe(dist.Poisson(response(draw(f_loc, f_var))), y)
