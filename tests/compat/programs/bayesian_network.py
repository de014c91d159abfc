"""Train a small Bayesian neural network made of PyroModule and PyroSample."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
from torch.distributions import constraints

pyro.set_rng_seed(7)
pyro.clear_param_store()


class BNN(PyroModule):
    def __init__(self, hidden=5):
        super().__init__()
        self.first = PyroModule[nn.Linear](1, hidden)
        self.first.weight = PyroSample(dist.Normal(0.0, 1.0).expand([hidden, 1]).to_event(2))
        self.first.bias = PyroSample(dist.Normal(0.0, 1.0).expand([hidden]).to_event(1))
        self.second = PyroModule[nn.Linear](hidden, 1)
        self.second.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, hidden]).to_event(2))
        self.sigma = PyroParam(torch.tensor(0.5), constraint=constraints.positive)

    def forward(self, x, y=None):
        mean = self.second(torch.tanh(self.first(x.unsqueeze(-1)))).squeeze(-1)
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(mean, self.sigma), obs=y)


x = torch.linspace(-2, 2, 40)
y = torch.tanh(2 * x) + 0.1 * torch.randn(40)
model = BNN()
guide = AutoDiagonalNormal(model)
svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), Trace_ELBO())
losses = [svi.step(x, y) for _ in range(250)]
assert sum(losses[-20:]) < sum(losses[:20])
assert "sigma" in pyro.get_param_store()
drawn = Predictive(model, guide=guide, num_samples=20)(x)
assert drawn["y"].shape == (20, 40)
assert isinstance(model.first, nn.Linear) and isinstance(model.first, PyroModule)
