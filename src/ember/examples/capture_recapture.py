"""Estimate how many birds there are from who was caught, and caught again.

Captures of wrynecks on five occasions (Reif et al. 2008), the model Mtbh of Kéry & Schaub (2012, chapter 6):
the chance to be caught depends on the occasion, on a capture just before, and on the bird. Birds that were
never caught may exist or not; that is summed out by NUTS, and drawn afterwards.
Run it by ``python -m ember.examples.capture_recapture``.
"""

from __future__ import annotations

import argparse
import json
from importlib import resources

import torch
from torch import Tensor

import ember as pyro
import ember.distributions as dist
from ember.infer import MCMC, NUTS


def load() -> Tensor:
    """Return captures, ``[146, 5]`` zeros and ones; the last birds were never caught."""
    text = resources.files("ember.examples").joinpath("data/Mtbh_data.json").read_text()
    return torch.tensor(json.loads(text)["y"], dtype=torch.get_default_dtype())


def model(captures: Tensor) -> None:
    """Let each of the listed birds exist with a common chance, and be caught only if it does."""
    birds, occasions = captures.shape
    before = torch.nn.functional.pad(captures[:, :-1], (1, 0))
    exists_rate = pyro.sample("exists_rate", dist.Uniform(0.0, 1.0))
    after_capture = pyro.sample("after_capture", dist.Normal(0.0, 2.0))  # how much shyer (or bolder) they get
    spread = pyro.sample("spread", dist.HalfNormal(1.5))
    with pyro.plate("occasions", occasions, dim=-1):
        chance = pyro.sample("chance", dist.Uniform(0.0, 1.0))
    with pyro.plate("birds", birds, dim=-2):
        exists = pyro.sample("exists", dist.Bernoulli(exists_rate), infer={"enumerate": "parallel"})
        boldness = pyro.sample("boldness", dist.Normal(0.0, 1.0))
        with pyro.plate("captures", occasions, dim=-1):
            logit = chance.logit() + after_capture * before + spread * boldness
            pyro.sample("caught", dist.Bernoulli(exists * logit.sigmoid()), obs=captures)


def fit(captures: Tensor, draws: int, chains: int, seed: int, progress: bool = True) -> dict[str, Tensor]:
    """Return posterior draws by site, and of the number of birds as ``birds``."""
    pyro.set_rng_seed(seed)
    mcmc = MCMC(
        NUTS(model), num_samples=draws, warmup_steps=draws, num_chains=chains, disable_progbar=not progress
    )
    mcmc.run(captures)
    samples = mcmc.get_samples(discrete=True)
    return {**samples, "birds": samples["exists"].sum((-1, -2))}


def main(arguments: list[str] | None = None) -> int:
    """Run the example and print its table."""
    parser = argparse.ArgumentParser(description="Estimate the size of a population.")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-progress", action="store_true")
    options = parser.parse_args(arguments)
    captures = load()
    samples = fit(captures, options.draws, options.chains, options.seed, not options.no_progress)
    caught = int((captures.sum(1) > 0).sum())
    low, middle, high = samples["birds"].quantile(
        torch.tensor([0.05, 0.5, 0.95], dtype=samples["birds"].dtype)
    )
    print(f"{caught} birds were caught; there are {middle:.0f} (90%: {low:.0f} to {high:.0f})")
    print("occasion  caught  chance to be caught (median)")
    for occasion, chance in enumerate(samples["chance"].median(0).values.reshape(-1)):
        print(f"{occasion + 1:8d}  {int(captures[:, occasion].sum()):6d}  {chance:.2f}")
    print(f"change of the log odds after a capture: {samples['after_capture'].mean():.2f}")
    print(f"spread of the log odds between birds: {samples['spread'].mean():.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
