"""Fit radon levels in Minnesota homes with intercepts and slopes that vary by county.

A hierarchical regression of log radon on the floor of the measurement and the county's uranium level,
non-centred and sampled by NUTS (Gelman & Hill 2006, chapter 13).
Run it by ``python -m ember.examples.radon --output DIR``.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

import ember
import ember.distributions as dist
from ember import report
from ember.infer import MCMC, NUTS

POPULATION = ("mu_alpha", "sigma_alpha", "mu_beta", "sigma_beta", "gamma", "sigma_y")


def load() -> dict[str, Tensor]:
    """Return county (from 0), floor, uranium and log radon of each home, ``[919]`` each."""
    data = json.loads(resources.files("ember.examples").joinpath("data/radon_mn.json").read_text())
    return {
        "county": torch.tensor(data["county_idx"]) - 1,
        "floor": torch.tensor(data["floor_measure"], dtype=torch.get_default_dtype()),
        "uranium": torch.tensor(data["log_uppm"]),
        "log_radon": torch.tensor(data["log_radon"]),
    }


def model(county: Tensor, floor: Tensor, uranium: Tensor, log_radon: Tensor | None = None) -> Tensor:
    """Let log radon be normal around alpha[county] + beta[county] * floor + gamma * uranium."""
    mu_alpha = ember.sample("mu_alpha", dist.Normal(0.0, 10.0))
    sigma_alpha = ember.sample("sigma_alpha", dist.HalfNormal(1.0))
    mu_beta = ember.sample("mu_beta", dist.Normal(0.0, 10.0))
    sigma_beta = ember.sample("sigma_beta", dist.HalfNormal(1.0))
    gamma = ember.sample("gamma", dist.Normal(0.0, 10.0))
    sigma_y = ember.sample("sigma_y", dist.HalfNormal(1.0))
    with ember.plate("counties", 85):
        z_alpha = ember.sample("z_alpha", dist.Normal(0.0, 1.0))
        z_beta = ember.sample("z_beta", dist.Normal(0.0, 1.0))
        alpha = ember.deterministic("alpha", mu_alpha + sigma_alpha * z_alpha, event_dim=0)
        beta = ember.deterministic("beta", mu_beta + sigma_beta * z_beta, event_dim=0)
    mean = alpha[county] + beta[county] * floor + gamma * uranium
    with ember.plate("homes", len(county)):
        return ember.sample("log_radon", dist.Normal(mean, sigma_y), obs=log_radon)


def fit(seconds: float, seed: int = 0, num_chains: int = 4, draws: int = 1000, progress: bool = True) -> MCMC:
    """Sample the posterior.

    :param seconds: end after about that time, with fewer draws.
    :param draws: number of warmup draws, and of kept draws unless the time is over before, of each chain.
    """
    ember.set_rng_seed(seed)
    mcmc = MCMC(
        NUTS(model),
        num_samples=draws,
        warmup_steps=draws,
        num_chains=num_chains,
        disable_progbar=not progress,
        max_seconds=seconds,
    )
    mcmc.run(**load())
    return mcmc


def main(arguments: list[str] | None = None) -> int:
    """Run the example, print its table and write its plots."""
    parser = argparse.ArgumentParser(description="Fit the Minnesota radon data.")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="directory for the plots")
    parser.add_argument("--seconds", type=float, default=240.0, help="time to spend, about")
    parser.add_argument("--draws", type=int, default=1000, help="draws of each chain after as many of warmup")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-progress", action="store_true")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    # The rest of the time is for the table and the plots.
    mcmc = fit(0.85 * options.seconds, options.seed, options.chains, options.draws, not options.no_progress)
    sampling = time.perf_counter() - start
    count = mcmc.sample_stats["diverging"].shape[1]
    print(f"NUTS: {options.chains} chains, {mcmc.warmup_steps} draws of warmup and {count} kept draws each")
    idata = mcmc.to_arviz()
    print("\nPopulation (counties follow in the plots):")
    print(report.table(idata, POPULATION))
    print("\nAll parameters, the counties' included: " + str(report.convergence(idata)))
    plots = [
        report.plot_trace(idata, options.output / "radon_trace.png", POPULATION),
        report.plot_forest(idata, options.output / "radon_forest.png", ("alpha", "beta")),
    ]
    total = time.perf_counter() - start
    print(f"Plots: {', '.join(map(str, plots))}")
    print(f"Sampling took {sampling:.0f} s, everything {total:.0f} s.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
