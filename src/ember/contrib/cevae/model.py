"""Model features, treatment and outcome by what causes all three, and guide that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import ember
import ember.distributions as dist
from ember.contrib.cevae.networks import BernoulliNet, DiagNormalNet, DistributionNet, FullyConnected
from ember.infer import Trace_ELBO
from ember.nn import PyroModule
from ember.poutine import Trace


class Model(PyroModule):
    """Hidden causes z, and features x, treatment t and outcome y that depend on them (and y on t).

    :param config: dict of ``latent_dim``, ``feature_dim``, ``hidden_dim``, ``num_layers`` and
        ``outcome_dist``.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__("model")
        self.latent_dim = config["latent_dim"]
        hidden = [config["hidden_dim"]] * config["num_layers"]
        outcome = DistributionNet.get_class(config["outcome_dist"])
        self.x_nn = DiagNormalNet([self.latent_dim, *hidden, config["feature_dim"]])
        # Each treatment has an outcome network of its own.
        self.y0_nn = outcome([self.latent_dim, *hidden])
        self.y1_nn = outcome([self.latent_dim, *hidden])
        self.t_nn = BernoulliNet([self.latent_dim])

    def forward(
        self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None, size: int | None = None
    ) -> Tensor:
        """Draw or observe all variables; return the outcome.

        :param x: ``(N, features)``.
        :param t: treatments 0 or 1, ``(N,)``.
        :param y: outcomes, ``(N,)``.
        :param size: number of all data, if these are a minibatch.
        """
        with ember.plate("data", len(x) if size is None else size, subsample=torch.arange(len(x))):
            z = ember.sample("z", self.z_dist())
            ember.sample("x", self.x_dist(z), obs=x)
            t = ember.sample("t", self.t_dist(z), obs=t)
            return ember.sample("y", self.y_dist(t, z), obs=y)

    def y_mean(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """Return the mean outcome of a treatment.

        :param x: ``(N, features)``.
        :param t: the treatment, which is drawn by default.
        """
        with ember.plate("data", len(x)):
            z = ember.sample("z", self.z_dist())
            ember.sample("x", self.x_dist(z), obs=x)
            t = ember.sample("t", self.t_dist(z), obs=t)
        mean: Tensor = self.y_dist(t, z).mean
        return mean

    def z_dist(self) -> Any:
        """Return the distribution of causes."""
        return dist.Normal(0.0, 1.0).expand([self.latent_dim]).to_event(1)

    def x_dist(self, z: Tensor) -> Any:
        """Return the distribution of features."""
        loc, scale = self.x_nn(z)
        return dist.Normal(loc, scale).to_event(1)

    def t_dist(self, z: Tensor) -> Any:
        """Return the distribution of treatments."""
        return BernoulliNet.make_dist(*self.t_nn(z))

    def y_dist(self, t: Tensor, z: Tensor) -> Any:
        """Return the distribution of outcomes."""
        return self.y0_nn.make_dist(*by_treatment(t, self.y0_nn(z), self.y1_nn(z)))


class Guide(PyroModule):
    """The posterior of the causes, with networks that predict treatment and outcome where they are not known.

    :param config: as that of :class:`Model`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__("guide")
        self.latent_dim = config["latent_dim"]
        features, width = config["feature_dim"], config["hidden_dim"]
        hidden = [width] * (config["num_layers"] - 1)
        outcome = DistributionNet.get_class(config["outcome_dist"])
        self.t_nn = BernoulliNet([features])
        self.y_nn = FullyConnected([features, *hidden, width], final_activation=nn.ELU())
        self.y0_nn = outcome([width])
        self.y1_nn = outcome([width])
        self.z_nn = FullyConnected([1 + features, *hidden, width], final_activation=nn.ELU())
        self.z0_nn = DiagNormalNet([width, self.latent_dim])
        self.z1_nn = DiagNormalNet([width, self.latent_dim])

    def forward(
        self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None, size: int | None = None
    ) -> None:
        """Draw the causes, and treatment and outcome if they are not given; arguments are the model's."""
        auxiliary = {"is_auxiliary": True}
        with ember.plate("data", len(x) if size is None else size, subsample=torch.arange(len(x))):
            t = ember.sample("t", self.t_dist(x), obs=t, infer=auxiliary)
            y = ember.sample("y", self.y_dist(t, x), obs=y, infer=auxiliary)
            ember.sample("z", self.z_dist(y, t, x))

    def t_dist(self, x: Tensor) -> Any:
        """Return the distribution of treatments given features."""
        return BernoulliNet.make_dist(*self.t_nn(x))

    def y_dist(self, t: Tensor, x: Tensor) -> Any:
        """Return the distribution of outcomes given treatments and features."""
        hidden = self.y_nn(x)
        return self.y0_nn.make_dist(*by_treatment(t, self.y0_nn(hidden), self.y1_nn(hidden)))

    def z_dist(self, y: Tensor, t: Tensor, x: Tensor) -> Any:
        """Return the distribution of causes given all else."""
        inputs = torch.cat([y.unsqueeze(-1), x.expand(*y.shape, x.shape[-1])], -1)
        hidden = self.z_nn(inputs)
        loc, scale = by_treatment(t.unsqueeze(-1), self.z0_nn(hidden), self.z1_nn(hidden))
        return dist.Normal(loc, scale).to_event(1)


def by_treatment(t: Tensor, without: Sequence[Tensor], with_it: Sequence[Tensor]) -> list[Tensor]:
    """Return parameters of those with or without a treatment."""
    return [torch.where(t.bool(), one, zero) for zero, one in zip(without, with_it, strict=True)]


class TraceCausalEffect_ELBO(Trace_ELBO):
    """The bound on log p(x, t, y), plus log q(t | x) + log q(y | t, x), which trains the guide's predictions.

    Louizos, Shalit, Mooij, Sontag, Zemel & Welling (2017), Causal effect inference with deep latent-variable
    models, equation 10.
    """

    def estimate(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        """Return one draw's bound and its surrogate."""
        latents = guide_trace.copy()
        predictions: Any = 0.0
        for name, site in guide_trace.nodes.items():
            if site["type"] == "sample" and site["is_observed"]:
                predictions = predictions + site["log_prob_sum"]
                latents.remove_node(name)
        bound, surrogate = super().estimate(model_trace, latents)
        total = bound + predictions
        return total, total if surrogate is bound else surrogate + predictions
