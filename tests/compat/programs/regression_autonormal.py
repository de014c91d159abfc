"""Fit a linear regression with an automatic guide and a decaying learning rate, then predict."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal, init_to_median
from pyro.optim import ClippedAdam

pyro.set_rng_seed(0)
x = torch.randn(60, 2)
y = 1.0 + x @ torch.tensor([2.0, -1.0]) + 0.3 * torch.randn(60)


def model(x, y=None):
    bias = pyro.sample("bias", dist.Normal(0.0, 5.0))
    weight = pyro.sample("weight", dist.Normal(torch.zeros(2), 5.0).to_event(1))
    noise = pyro.sample("noise", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(bias + x @ weight, noise), obs=y)


guide = AutoNormal(model, init_loc_fn=init_to_median, init_scale=0.05)
svi = SVI(model, guide, ClippedAdam({"lr": 0.05, "lrd": 0.99}), Trace_ELBO())
for _ in range(300):
    loss = svi.step(x, y)

median = guide.median(x)
assert torch.allclose(median["weight"], torch.tensor([2.0, -1.0]), atol=0.3), median
assert 0.15 < median["noise"] < 0.6
assert set(guide.quantiles([0.1, 0.9])) == {"bias", "weight", "noise"}

predictive = Predictive(model, guide=guide, num_samples=50, return_sites=("y", "weight"))
drawn = predictive(x)
assert drawn["y"].shape == (50, 60)
assert (drawn["y"].mean(0) - y).abs().mean() < 0.5
