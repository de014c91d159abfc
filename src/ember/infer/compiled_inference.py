"""Train a guide on a model's own draws, and use it for importance sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ember import poutine
from ember.infer.dreaming import dream, log_prob_of_dream, observations_of
from ember.infer.importance import Importance
from ember.infer.svi import unconstrained_params
from ember.poutine.trace_struct import Trace


class CSIS(Importance):
    """Compiled sequential importance sampling (Le, Baydin & Wood 2017, arXiv 1610.09900).

    The guide learns to propose latent values for any data: its loss is the mean of −log q(z | x) over z and x
    drawn from the model. Model and guide take a keyword argument ``observations``, a dict from the names of
    the observed sites to their values. After training, :meth:`run` draws weighted traces given data.

    :param model: the model.
    :param guide: its guide.
    :param optim: an optimiser of :mod:`ember.optim`.
    :param num_inference_samples: number of draws of :meth:`run`.
    :param training_batch_size: number of draws of the model in a step.
    :param validation_batch_size: number of draws that :meth:`validation_loss` is computed on.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        optim: Callable[[list[Tensor]], Any],
        num_inference_samples: int = 10,
        training_batch_size: int = 10,
        validation_batch_size: int = 20,
    ) -> None:
        super().__init__(model, guide, num_inference_samples)
        self.optim = optim
        self.training_batch_size = training_batch_size
        self.validation_batch_size = validation_batch_size
        self.validation_batch: list[Trace] | None = None

    def set_validation_batch(self, *args: Any, **kwargs: Any) -> None:
        """Draw the batch that :meth:`validation_loss` uses from now on."""
        self.validation_batch = [dream(self.model, args, kwargs) for _ in range(self.validation_batch_size)]

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take one gradient step of the guide's parameters and return the loss."""
        with poutine.trace(param_only=True) as capture:
            loss = self.loss_and_grads(True, None, *args, **kwargs)
        params = unconstrained_params(capture.trace)
        self.optim(params)
        for param in params:
            param.grad = None
        return loss

    def loss_and_grads(self, grads: bool, batch: list[Trace] | None, *args: Any, **kwargs: Any) -> float:
        """Return the loss on a batch of the model's draws (fresh ones if None); with gradients if asked.

        :raises ValueError: without observations by site name.
        """
        observations_of(kwargs, "CSIS", "add the keyword argument to model and guide")
        if batch is None:
            # The model's own params are no business of this loss.
            with poutine.block():
                batch = [dream(self.model, args, kwargs) for _ in range(self.training_batch_size)]
        total = 0.0
        for dreamt in batch:
            with torch.set_grad_enabled(grads):
                loss = -torch.as_tensor(log_prob_of_dream(self.guide, dreamt, args, kwargs)) / len(batch)
            if grads and loss.requires_grad:
                loss.backward()
            total += loss.item()
        return total

    def validation_loss(self, *args: Any, **kwargs: Any) -> float:
        """Return the loss on the validation batch, which is drawn at the first call."""
        if self.validation_batch is None:
            self.set_validation_batch(*args, **kwargs)
        return self.loss_and_grads(False, self.validation_batch, *args, **kwargs)
