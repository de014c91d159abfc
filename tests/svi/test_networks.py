"""Check networks as their users write them: they train by default, silently, as eager execution does."""

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.distributions import transforms
from ember.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from ember.infer.autoguide import AutoDiagonalNormal
from ember.infer.compiled_steps.execution import EAGER_STEPS
from ember.nn import PyroModule, PyroSample

NUMBERS = torch.Generator().manual_seed(0)
X = torch.randn(60, 3, generator=NUMBERS)
Y = X[:, 0] * X[:, 1] + 0.1 * torch.randn(60, generator=NUMBERS)
IMAGES = (torch.rand(50, 16, generator=NUMBERS) < 0.3).float()
LABELS = torch.randint(0, 4, (50,), generator=NUMBERS)
SEQUENCES = (torch.rand(20, 4, 6, generator=NUMBERS) < 0.3).float()
LENGTHS = torch.randint(2, 5, (20,), generator=NUMBERS)


class BayesianNetwork(PyroModule):
    def __init__(self):
        super().__init__()
        self.first = PyroModule[nn.Linear](3, 8)
        self.first.weight = PyroSample(dist.Normal(0.0, 1.0).expand([8, 3]).to_event(2))
        self.first.bias = PyroSample(dist.Normal(0.0, 1.0).expand([8]).to_event(1))
        self.last = PyroModule[nn.Linear](8, 1)
        self.last.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 8]).to_event(2))

    def forward(self, x, y=None):
        mean = self.last(torch.tanh(self.first(x))).squeeze(-1)
        noise = ember.sample("noise", dist.Gamma(2.0, 4.0))
        with ember.plate("data", len(x)):
            return ember.sample("y", dist.Normal(mean, noise), obs=y)


def bayesian_network():
    model = BayesianNetwork()
    return model, AutoDiagonalNormal(model, init_scale=0.05), Trace_ELBO(), (X, Y)


def deep_kernel():
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))

    def model(x, y):
        ember.module("net", net)
        length = ember.param("length", torch.tensor(1.0), constraint=dist.constraints.positive)
        noise = ember.param("noise", torch.tensor(0.1), constraint=dist.constraints.positive)
        features = net(x) / length
        covariance = torch.exp(-0.5 * (features[:, None] - features).square().sum(-1))
        covariance = covariance + (noise + 1e-3) * torch.eye(len(x))
        ember.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), covariance), obs=y)

    return model, lambda x, y: None, Trace_ELBO(), (X, Y)


class ConditionalAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 6))
        self.decoder = nn.Sequential(nn.Linear(7, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, 16))

    def model(self, x, y):
        ember.module("autoencoder", self)
        with ember.plate("data", len(x)):
            z = ember.sample("z", dist.Normal(x.new_zeros(len(x), 3), x.new_ones(len(x), 3)).to_event(1))
            logits = self.decoder(torch.cat([z, F.one_hot(y, 4).float()], -1))
            ember.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(self, x, y):
        with ember.plate("data", len(x)):
            loc, scale = self.encoder(torch.cat([x, F.one_hot(y, 4).float()], -1)).chunk(2, -1)
            ember.sample("z", dist.Normal(loc, F.softplus(scale) + 1e-3).to_event(1))


def conditional_autoencoder():
    networks = ConditionalAutoencoder()
    return networks.model, networks.guide, Trace_ELBO(), (IMAGES, LABELS)


def flow_autoencoder():
    encoder, decoder = nn.Linear(16, 8), nn.Linear(4, 16)
    flows = nn.ModuleList([transforms.affine_autoregressive(4, hidden_dims=[8]) for _ in range(2)])

    def model(x):
        ember.module("decoder", decoder)
        with ember.plate("data", len(x)):
            z = ember.sample("z", dist.Normal(torch.zeros(4), torch.ones(4)).to_event(1))
            ember.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        ember.module("encoder", encoder)
        ember.module("flows", flows)
        with ember.plate("data", len(x)):
            loc, scale = encoder(x).chunk(2, -1)
            base = dist.Normal(loc, scale.exp()).to_event(1)
            ember.sample("z", dist.TransformedDistribution(base, list(flows)))

    return model, guide, Trace_ELBO(), (IMAGES,)


def semi_supervised_autoencoder():
    encoder, classifier, decoder = nn.Linear(20, 6), nn.Linear(16, 4), nn.Linear(7, 16)

    def model(x):
        ember.module("decoder", decoder)
        with ember.plate("data", len(x)):
            z = ember.sample("z", dist.Normal(torch.zeros(3), torch.ones(3)).to_event(1))
            y = ember.sample("y", dist.OneHotCategorical(torch.ones(len(x), 4) / 4))
            logits = decoder(torch.cat([z.expand((*y.shape[:-1], 3)), y], -1))
            ember.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    def guide(x):
        ember.module("encoder", encoder)
        ember.module("classifier", classifier)
        with ember.plate("data", len(x)):
            y = ember.sample("y", dist.OneHotCategorical(logits=classifier(x)))
            loc, scale = encoder(torch.cat([x.expand((*y.shape[:-1], 16)), y], -1)).chunk(2, -1)
            ember.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    return model, config_enumerate(guide, "parallel", expand=True), TraceEnum_ELBO(1), (IMAGES,)


class DeepMarkovModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.transition, self.emission = nn.Linear(3, 6), nn.Linear(3, 6)
        self.network = nn.GRU(6, 8, batch_first=True)
        self.combine, self.out = nn.Linear(3, 8), nn.Linear(8, 6)
        self.start = nn.Parameter(torch.zeros(3))

    def model(self, x, mask, annealing):
        ember.module("markov", self)
        z = self.start.expand(len(x), 3)
        with ember.plate("sequences", len(x)):
            for t in ember.markov(range(x.shape[1])):
                loc, scale = self.transition(z).chunk(2, -1)
                z = self._state(t, loc, scale, mask, annealing)
                emitted = dist.Bernoulli(logits=self.emission(z)).mask(mask[:, t : t + 1])
                ember.sample(f"x_{t}", emitted.to_event(1), obs=x[:, t])

    def guide(self, x, mask, annealing):
        ember.module("markov", self)
        hidden = self.network(x.flip(1))[0].flip(1)
        z = self.start.expand(len(x), 3)
        with ember.plate("sequences", len(x)):
            for t in ember.markov(range(x.shape[1])):
                loc, scale = self.out(0.5 * (torch.tanh(self.combine(z)) + hidden[:, t])).chunk(2, -1)
                z = self._state(t, loc, scale, mask, annealing)

    def _state(self, t, loc, scale, mask, annealing):
        state = dist.Normal(loc, F.softplus(scale)).mask(mask[:, t : t + 1])
        with poutine.scale(scale=annealing):
            return ember.sample(f"z_{t}", state.to_event(1))


def deep_markov_model():
    networks = DeepMarkovModel()
    mask = torch.arange(4) < LENGTHS[:, None]
    return networks.model, networks.guide, Trace_ELBO(), (SEQUENCES, mask, 0.7)


@pytest.mark.parametrize(
    "make",
    [
        bayesian_network,
        deep_kernel,
        conditional_autoencoder,
        flow_autoencoder,
        semi_supervised_autoencoder,
        deep_markov_model,
    ],
)
def test_networks_train_by_default_as_they_do_eagerly(make, caplog):
    ends = {}
    for execution in ("eager", "auto"):
        ember.clear_param_store()
        ember.set_rng_seed(0)
        model, guide, objective, args = make()
        svi = SVI(model, guide, optim.Adam({"lr": 0.02}), objective, execution=execution)
        with caplog.at_level(logging.WARNING, "ember"):
            losses = torch.tensor([svi.step(*args) for _ in range(EAGER_STEPS + 40)])
        ends[execution] = losses[-30:]
    assert not caplog.records
    assert any(kind.captured is not None for kind in svi._execution._kinds)
    eager, found = ends["eager"], ends["auto"]
    # Draws differ from the first captured step on; these trainings end near each other all the same.
    assert (found.mean() - eager.mean()).abs() < 4 * (
        found.std() + eager.std() + 1e-3 * eager.mean().abs()
    ) / 5
    assert found.mean() < losses[:5].mean()
