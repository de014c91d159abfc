"""Regress the progress of diabetes on ten measurements with a PyroModule, by SVI, beside the exact answer.

The data are scikit-learn's 442 patients (Efron, Hastie, Johnstone & Tibshirani 2004).
Run it by ``python -m ember.examples.diabetes``.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn

import ember
import ember.distributions as dist
from ember.infer import SVI, Predictive, Trace_ELBO
from ember.infer.autoguide import AutoMultivariateNormal
from ember.nn import PyroModule, PyroParam, PyroSample


def load() -> tuple[Tensor, Tensor, list[str]]:
    """Return standardised measurements ``(442, 10)``, standardised progress ``(442,)``, and names."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes()
    columns = torch.tensor(found.data, dtype=torch.float64), torch.tensor(found.target)
    x, y = ((each - each.mean(0)) / each.std(0) for each in columns)
    return x.to(torch.get_default_dtype()), y.to(torch.get_default_dtype()), list(found.feature_names)


class Regression(PyroModule):
    """A linear layer with random weights, and noise whose scale is learned."""

    def __init__(self, features: int, weight_scale: float = 0.5) -> None:
        super().__init__()
        self.linear = PyroModule[nn.Linear](features, 1)  # type: ignore[misc]  # made by __class_getitem__
        self.linear.weight = PyroSample(dist.Normal(0.0, weight_scale).expand([1, features]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, weight_scale).expand([1]).to_event(1))
        self.noise: Any = PyroParam(torch.tensor(1.0), constraint=dist.constraints.positive)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the mean, ``(N,)``."""
        mean = self.linear(x).squeeze(-1)
        with ember.plate("patients", len(x)):
            ember.sample("y", dist.Normal(mean, self.noise), obs=y)
        return mean


def train(x: Tensor, y: Tensor, steps: int = 3000) -> tuple[Regression, AutoMultivariateNormal, list[float]]:
    """Return the model, its trained guide, and the losses."""
    model = Regression(x.shape[1])
    guide = AutoMultivariateNormal(model)
    optimizer = ember.optim.ClippedAdam({"lr": 0.05, "lrd": 0.005 ** (1 / steps)})
    svi = SVI(model, guide, optimizer, Trace_ELBO())
    losses = [svi.step(x, y) for _ in range(steps)]
    return model, guide, losses


def exact(x: Tensor, y: Tensor, noise: float, weight_scale: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return mean and scale of the weights' exact posterior (the bias last), for a noise scale."""
    design = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    precision = design.T @ design / noise**2 + torch.eye(design.shape[1]).double() / weight_scale**2
    covariance = precision.inverse()
    return covariance @ design.T @ y.double() / noise**2, covariance.diagonal().sqrt()


def main() -> None:
    """Fit, and print each weight beside its exact posterior."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    ember.set_rng_seed(0)
    x, y, names = load()
    model, guide, losses = train(x, y, options.steps)
    print(f"loss {losses[0]:.1f} -> {losses[-1]:.1f}, noise {model.noise.item():.3f}")
    draws = Predictive(guide, num_samples=1000, return_sites=["linear.weight"])(x, y)["linear.weight"]
    mean, scale = exact(x, y, model.noise.item())
    print(f"{'':>5} {'SVI':>14} {'exact':>14}")
    for index, name in enumerate(names):
        column = draws[..., index].flatten()
        print(f"{name:>5} {column.mean():7.3f} ±{column.std():5.3f} {mean[index]:8.3f} ±{scale[index]:5.3f}")


if __name__ == "__main__":
    main()
