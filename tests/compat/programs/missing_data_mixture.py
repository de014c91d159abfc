"""Fit a mixture of two normals beside a covariate with holes, which ``obs_mask`` leaves to be imputed."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam

pyro.set_rng_seed(5)
data = torch.cat([torch.randn(30) - 3.0, torch.randn(30) + 3.0])
covariate = 0.5 * data + 0.3 * torch.randn(60)
mask = torch.ones(60, dtype=torch.bool)
mask[::10] = False
covariate = torch.where(mask, covariate, torch.zeros(()))


def model(data, covariate, mask):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(2)))
    locs = pyro.sample("locs", dist.Normal(torch.tensor([-1.0, 1.0]), 4.0).to_event(1))
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(locs, 1.0))
    with pyro.plate("data", len(data)):
        x = pyro.sample("x", mixture, obs=data)
        return pyro.sample("covariate", dist.Normal(slope * x, 0.3), obs=covariate, obs_mask=mask)


trace = poutine.trace(model).get_trace(data, covariate, mask)
assert trace.nodes["covariate_observed"]["is_observed"]
assert not trace.nodes["covariate_unobserved"]["is_observed"]
assert torch.equal(trace.nodes["covariate"]["value"][mask], covariate[mask])

guide = AutoNormal(model)
svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
for _ in range(300):
    svi.step(data, covariate, mask)
median = guide.median(data, covariate, mask)
assert median["locs"][0] < -2 and median["locs"][1] > 2, median
assert abs(median["slope"] - 0.5) < 0.1, median
hidden = ~mask
assert (median["covariate_unobserved"][hidden] - 0.5 * data[hidden]).abs().max() < 0.6
