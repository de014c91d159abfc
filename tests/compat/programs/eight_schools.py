"""Fit the eight schools with NUTS, non-centred, and read the posterior."""

import argparse

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS

y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def model(sigma, y=None):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(sigma)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta, event_dim=0)
        return pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-samples", type=int, default=80)
    args = parser.parse_args()
    pyro.set_rng_seed(1)
    mcmc = MCMC(NUTS(model), num_samples=args.num_samples, warmup_steps=80, disable_progbar=True)
    mcmc.run(sigma, y)
    samples = mcmc.get_samples()
    assert samples["eta"].shape == (args.num_samples, 8)
    assert samples["tau"].min() > 0
    assert 0.5 < samples["mu"].mean() < 8.5, samples["mu"].mean()
    mcmc.summary()
