"""Fit a mixture of two normals to data with holes, which ``obs_mask`` leaves to be imputed."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam

pyro.set_rng_seed(5)
truth = torch.cat([torch.randn(30) - 3.0, torch.randn(30) + 3.0])
mask = torch.ones(60, dtype=torch.bool)
mask[::10] = False
data = torch.where(mask, truth, torch.zeros(()))


def model(data, mask):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
    locs = pyro.sample("locs", dist.Normal(torch.tensor([-1.0, 1.0]), 4.0).to_event(1))
    mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(locs, 1.0))
    with pyro.plate("data", len(data)):
        return pyro.sample("x", mixture, obs=data, obs_mask=mask)


trace = poutine.trace(model).get_trace(data, mask)
assert trace.nodes["x_observed"]["is_observed"] and not trace.nodes["x_unobserved"]["is_observed"]
merged = trace.nodes["x"]["value"]
assert torch.equal(merged[mask], data[mask])

guide = AutoNormal(model)
svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
for _ in range(200):
    svi.step(data, mask)
locs = guide.median(data, mask)["locs"]
assert locs[0] < -2 and locs[1] > 2, locs
