"""Forecast how many drivers come to harm on British roads, where seat belts have just become compulsory.

Months from 1969 to 1983 are a level that wanders, a season, and the effects of the price of petrol and of the
law of February 1983 (Harvey & Durbin 1986); the year 1984 is forecast. All is sampled by NUTS.
Run it by ``python -m ember.examples.drivers``.
"""

from __future__ import annotations

import argparse
import json
from importlib import resources

import torch
from torch import Tensor

import ember
import ember.distributions as dist
from ember.contrib.forecast import ForecastingModel, HMCForecaster, eval_crps
from ember.ops.tensors import periodic_repeat

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def load() -> tuple[Tensor, Tensor]:
    """Return log numbers ``(192, 1)``, and covariates ``(192, 2)``: centred log price, and the law."""
    data = json.loads(resources.files("ember.examples").joinpath("data/uk_drivers.json").read_text())
    columns = [torch.tensor(data[key], dtype=torch.get_default_dtype()) for key in ("x", "w")]
    columns[0] = columns[0] - columns[0].mean()
    return torch.tensor(data["y"])[:, None], torch.stack(columns, -1)


class Accidents(ForecastingModel):
    """A structural model of log numbers: level + season + effects + noise."""

    def model(self, zero_data: Tensor, covariates: Tensor) -> None:
        """Run the model's statements."""
        start = ember.sample("start", dist.Normal(torch.full((1,), 7.4), 0.5).to_event(1))
        effects = ember.sample("effects", dist.Normal(torch.zeros(2), 0.5).to_event(1))
        season = ember.sample("season", dist.Normal(torch.zeros(12, 1), 0.2).to_event(2))
        drift_scale = ember.sample("drift_scale", dist.LogNormal(torch.full((1,), -4.0), 1.0).to_event(1))
        noise_scale = ember.sample("noise_scale", dist.LogNormal(torch.full((1,), -2.5), 1.0).to_event(1))
        with self.time_plate:
            drift = ember.sample("drift", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        level = start + (drift_scale * drift).cumsum(-2)
        # Parameters have a dim of size 1 in the place of time, which a season fills itself.
        season = season.squeeze(-3) if season.dim() > 2 else season
        season = season - season.mean(-2, keepdim=True)
        seasons = periodic_repeat(season, covariates.shape[0], -2)
        causes = (effects * covariates).sum(-1, keepdim=True)
        self.predict(dist.Normal(0.0, noise_scale), level + seasons + causes)


def fit(y: Tensor, covariates: Tensor, num_samples: int = 500) -> HMCForecaster:
    """Return the forecaster trained on the given months."""
    return HMCForecaster(Accidents(), y, covariates, num_warmup=num_samples, num_samples=num_samples)


def main() -> None:
    """Fit, and print the effect of the law and the forecast of 1984."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-samples", type=int, default=500)
    options = parser.parse_args()
    ember.set_rng_seed(0)
    y, covariates = load()
    forecaster = fit(y[:180], covariates[:180], options.num_samples)
    effects = forecaster.mcmc.get_samples()["effects"]
    change = 100.0 * torch.expm1(effects[:, 1])
    print(f"numbers under the law: {change.mean():.0f} % ± {change.std():.0f} %")
    draws = forecaster(y[:180], covariates, num_samples=options.num_samples)
    low, middle, high = draws.exp().quantile(torch.tensor([0.05, 0.5, 0.95]), 0)[..., 0]
    print(f"{'1984':>5} {'forecast':>9} {'90 % interval':>15} {'truth':>6}")
    for month, name in enumerate(MONTHS):
        interval = f"{low[month]:.0f} to {high[month]:.0f}"
        print(f"{name:>5} {middle[month]:9.0f} {interval:>15} {y[180 + month, 0].exp():6.0f}")
    naive = (y[168:180] - y[180:]).abs().mean()
    print(f"score (CRPS of logs) {eval_crps(draws, y[180:]):.3f}, of last year's numbers {naive:.3f}")


if __name__ == "__main__":
    main()
