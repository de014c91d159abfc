"""Learn the fairness of a coin by SVI with a guide written by hand."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch.distributions import constraints

pyro.enable_validation(True)
pyro.clear_param_store()
pyro.set_rng_seed(3)
data = torch.cat([torch.ones(6), torch.zeros(4)])


def model(data):
    fairness = pyro.sample("fairness", dist.Beta(10.0, 10.0))
    with pyro.plate("flips", len(data)):
        pyro.sample("obs", dist.Bernoulli(fairness), obs=data)


def guide(data):
    alpha = pyro.param("alpha", torch.tensor(15.0), constraint=constraints.positive)
    beta = pyro.param("beta", lambda: torch.tensor(15.0), constraint=constraints.positive)
    pyro.sample("fairness", dist.Beta(alpha, beta))


svi = SVI(model, guide, Adam({"lr": 0.02, "betas": (0.9, 0.99)}), loss=Trace_ELBO(num_particles=2))
losses = [svi.step(data) for _ in range(200)]
alpha, beta = pyro.param("alpha").item(), pyro.param("beta").item()
assert abs(alpha / (alpha + beta) - 16 / 30) < 0.06, (alpha, beta)
assert isinstance(losses[0], float)
assert svi.evaluate_loss(data) < sum(losses[:20]) / 20 + 1.0
