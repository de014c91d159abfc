"""Fit by minibatches: subsampled plates, local parameters sliced by ``event_dim``, and ``pyro.subsample``."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch.distributions import constraints

pyro.set_rng_seed(2)
data = 4.0 + torch.randn(50)


def model(data, batch=10):
    loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(data), subsample_size=batch) as ind:
        z = pyro.sample("z", dist.Normal(loc, 1.0))
        minibatch = pyro.subsample(data, event_dim=0)
        assert torch.equal(minibatch, data[ind])
        pyro.sample("x", dist.Normal(z, 0.5), obs=minibatch)
    return ind


def guide(data, batch=10):
    mean = pyro.param("mean", torch.zeros(()))
    std = pyro.param("std", torch.tensor(0.3), constraint=constraints.positive)
    pyro.sample("loc", dist.Normal(mean, std))
    with pyro.plate("data", len(data), subsample_size=batch) as ind:
        local = pyro.param("local", lambda: data.clone(), event_dim=0)
        assert local.shape == (batch,) and len(ind) == batch
        pyro.sample("z", dist.Normal(local, 0.4))


svi = SVI(model, guide, Adam({"lr": 0.05}), Trace_ELBO())
for _ in range(300):
    svi.step(data)
assert pyro.param("local").shape == (50,)
assert abs(pyro.param("mean").item() - data.mean().item()) < 1.0

# The sequential form, and crossed plates.
total = 0
for i in pyro.plate("loop", 100, subsample_size=10):
    assert isinstance(i, int)
    pyro.sample(f"site_{i}", dist.Normal(0.0, 1.0))
    total += 1
assert total == 10
x_axis, y_axis = pyro.plate("x_axis", 320, dim=-1), pyro.plate("y_axis", 200, dim=-2)
with x_axis, y_axis:
    assert pyro.sample("noise", dist.Normal(0.0, 1.0)).shape == (200, 320)
