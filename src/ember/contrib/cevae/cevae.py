"""Train a causal effect variational autoencoder, and estimate effects of treatments."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ember import plate, poutine
from ember.contrib.cevae.model import Guide, Model, TraceCausalEffect_ELBO
from ember.contrib.cevae.networks import PreWhitener
from ember.errors import message
from ember.infer import SVI
from ember.optim import ClippedAdam

logger = logging.getLogger(__name__)


class CEVAE(nn.Module):
    """A causal effect variational autoencoder: effects of a treatment where causes of all are hidden.

    Louizos, Shalit, Mooij, Sontag, Zemel & Welling (2017), Causal effect inference with deep latent-variable
    models.

    :param feature_dim: number of features.
    :param outcome_dist: family of the outcomes: ``"bernoulli"``, ``"exponential"``, ``"laplace"``,
        ``"normal"`` or ``"studentt"``.
    :param latent_dim: number of hidden causes.
    :param hidden_dim: width of hidden layers.
    :param num_layers: number of hidden layers.
    :param num_samples: number of draws of an estimated effect.
    :raises ValueError: for another family.
    """

    def __init__(
        self,
        feature_dim: int,
        outcome_dist: str = "bernoulli",
        latent_dim: int = 20,
        hidden_dim: int = 200,
        num_layers: int = 3,
        num_samples: int = 100,
    ) -> None:
        super().__init__()
        config = {
            "feature_dim": feature_dim,
            "latent_dim": latent_dim,
            "hidden_dim": hidden_dim,
            "num_layers": num_layers,
            "outcome_dist": outcome_dist,
        }
        self.feature_dim = feature_dim
        self.num_samples = num_samples
        self.model = Model(config)
        self.guide = Guide(config)

    def fit(
        self,
        x: Tensor,
        t: Tensor,
        y: Tensor,
        num_epochs: int = 100,
        batch_size: int = 100,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.1,
        weight_decay: float = 1e-4,
        log_every: int = 100,
    ) -> list[float]:
        """Train on data; return the loss of each minibatch, divided by the number of all data.

        :param x: features, ``(N, feature_dim)``.
        :param t: treatments 0 or 1, ``(N,)``.
        :param y: outcomes, ``(N,)``.
        :param num_epochs: number of passes over the data.
        :param batch_size: size of minibatches.
        :param learning_rate: the first learning rate.
        :param learning_rate_decay: ratio of the last to the first one.
        :param weight_decay: factor of the squared weights in the loss.
        :param log_every: log the loss every so many minibatches, or never if 0.
        :raises ValueError: if the shapes do not fit.
        """
        self._check(x)
        if t.shape != x.shape[:1] or y.shape != x.shape[:1]:
            raise ValueError(
                message(
                    "Treatments or outcomes have a wrong shape.",
                    expected=tuple(x.shape[:1]),
                    actual=f"{tuple(t.shape)} and {tuple(y.shape)}",
                )
            )
        self.whiten = PreWhitener(x)
        loader = DataLoader(TensorDataset(x, t, y), batch_size=batch_size, shuffle=True)
        num_steps = num_epochs * len(loader)
        options = {
            "lr": learning_rate,
            "weight_decay": weight_decay,
            "lrd": learning_rate_decay ** (1 / max(num_steps, 1)),
        }
        svi = SVI(self.model, self.guide, ClippedAdam(options), TraceCausalEffect_ELBO())
        losses: list[float] = []
        for _ in range(num_epochs):
            for features, treatments, outcomes in loader:
                loss = svi.step(self.whiten(features), treatments, outcomes, size=len(x)) / len(x)
                if log_every and len(losses) % log_every == 0:
                    logger.info("step %d loss = %.6g", len(losses), loss)
                losses.append(float(loss))
        return losses

    @torch.no_grad()
    def ite(self, x: Tensor, num_samples: int | None = None, batch_size: int | None = None) -> Tensor:
        """Return the individual treatment effects E[y | x, do(t=1)] − E[y | x, do(t=0)], ``(N,)``.

        :param x: features, ``(N, feature_dim)``.
        :param num_samples: number of draws of the causes, by default that of the object.
        :param batch_size: number of rows computed at a time, by default all.
        :raises ValueError: if the features have another shape, or the model has not been trained.
        """
        self._check(x)
        if not hasattr(self, "whiten"):
            raise ValueError(message("A CEVAE has not been trained yet.", fix="call its method fit first"))
        count = self.num_samples if num_samples is None else num_samples
        effects = []
        for part in x.split(len(x) if batch_size is None else batch_size):
            features = self.whiten(part)
            with poutine.block(), plate("num_particles", count, dim=-2):
                trace = poutine.trace(self.guide).get_trace(features)
                del trace.nodes["t"], trace.nodes["y"]
                means = [
                    poutine.replay(self.model.y_mean, trace=trace)(features, torch.full((), float(t)))
                    for t in (0, 1)
                ]
            effects.append((means[1] - means[0]).mean(0))
        return torch.cat(effects)

    def _check(self, x: Tensor) -> None:
        if x.dim() != 2 or x.shape[-1] != self.feature_dim:
            raise ValueError(
                message(
                    "Features have a wrong shape.", expected=f"(N, {self.feature_dim})", actual=tuple(x.shape)
                )
            )
