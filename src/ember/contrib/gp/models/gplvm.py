"""Find latent inputs from which a Gaussian process gives the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

import ember.distributions as dist
from ember.contrib.gp.models.model import GPModel
from ember.contrib.gp.parameterized import Parameterized
from ember.errors import message
from ember.nn import PyroSample, pyro_method


class GPLVM(Parameterized):
    """A Gaussian process model whose inputs X are latent, standard Gaussian a priori, with a Normal guide.

    Lawrence (2005), Probabilistic non-linear principal component analysis with Gaussian process latent
    variable models; Titsias & Lawrence (2010), Bayesian Gaussian process latent variable model. Give X
    another prior by ``gplvm.X = PyroSample(prior)`` and its guide by ``gplvm.autoguide("X", …)``; ``X_loc``
    is the guide's mean, and starts at the base model's inputs.

    :param base_model: the model, with inputs ``(N, features)`` and outputs ``(outputs, N)``.
    :raises ValueError: if it is none, or its inputs have another form.
    """

    def __init__(self, base_model: GPModel) -> None:
        super().__init__()
        if not isinstance(base_model, GPModel):
            raise ValueError(
                message("GPLVM needs another model.", expected="a GPModel", actual=type(base_model).__name__)
            )
        if base_model.X.dim() != 2:
            raise ValueError(
                message(
                    "The latent inputs of a GPLVM have a wrong shape.",
                    expected="(N, features)",
                    actual=tuple(base_model.X.shape),
                )
            )
        self.base_model = base_model
        X = base_model.X.detach().clone()
        del base_model.X  # be it a parameter or random: it is this module's attribute now
        base_model.X = X
        self.X: Any = PyroSample(dist.Normal(torch.zeros_like(X), 1.0).to_event(X.dim()))
        self.autoguide("X", dist.Normal)
        with torch.no_grad():
            self.X_loc = X.clone()

    @pyro_method
    def model(self) -> Any:
        """Draw X, and run the base model on it."""
        self.set_mode("model")
        with self._latent_inputs():
            return self.base_model.model()

    @pyro_method
    def guide(self) -> Any:
        """Draw X, and what is random in the base model, from their guides."""
        self.set_mode("guide")
        with self._latent_inputs():
            return self.base_model.guide()

    def forward(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return what the base model predicts, given latent inputs drawn from their guide.

        :param kwargs: arguments of the base model: ``Xnew``, ``full_cov`` and others.
        """
        self.set_mode("guide")
        with self._latent_inputs():
            predicted: tuple[Tensor, Tensor] = self.base_model(**kwargs)
            return predicted

    @contextmanager
    def _latent_inputs(self) -> Iterator[None]:
        """Let the base model work on X, and leave it as it was."""
        base, before = self.base_model, self.base_model.X
        base.set_data(self.X, base.y)
        try:
            yield
        finally:
            base.set_data(before, base.y)
