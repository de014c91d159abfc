"""PyroModule, random_module and lift around torch's own layers, containers and tools."""

import copy
import pickle

import pytest
import torch
from torch import nn

import ember
import ember.distributions as dist
from ember import optim, poutine, settings
from ember.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from ember.infer.autoguide import AutoDiagonalNormal, AutoNormal
from ember.nn import PyroModule, PyroModuleList, PyroParam, PyroSample, to_pyro_module_

X = torch.linspace(-1.0, 1.0, 8).reshape(4, 2)


def sites(fn, *args):
    trace = poutine.trace(fn).get_trace(*args)
    return {name: site["type"] for name, site in trace.nodes.items() if site["type"] in ("sample", "param")}


def standard(value):
    return dist.Normal(0.0, 1.0).expand(value.shape).to_event()


class Containers(PyroModule):
    def __init__(self):
        super().__init__()
        self.table = PyroModule[nn.ModuleDict]({"a": PyroModule[nn.Linear](2, 2), "b": nn.Linear(2, 2)})
        self.rows = PyroModule[nn.ModuleList]([nn.Linear(2, 2)])
        self.more = PyroModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.chain = PyroModule[nn.Sequential](nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))

    def forward(self, x):
        for key in self.table:
            x = self.table[key](x)
        for row in self.rows:
            x = row(x)
        return self.chain(self.more[0](x))


def test_plain_modules_in_containers_are_registered_and_learn():
    net = Containers()
    expected = {f"table.a.{part}" for part in ("weight", "bias")}
    plain = ("table.b", "rows.0", "more.0", "more.1", "chain.0", "chain.2")
    expected |= {f"{name}$$${part}" for name in plain for part in ("weight", "bias")}
    assert set(sites(net, X)) == expected

    def model():
        ember.sample("y", dist.Normal(net(X), 1.0).to_event(2), obs=torch.full((4, 1), 5.0))

    before = net.chain[2].bias.detach().clone()
    svi = SVI(model, lambda: None, optim.Adam({"lr": 0.1}), Trace_ELBO())
    losses = [svi.step() for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    assert not torch.equal(net.chain[2].bias, before)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        torch.testing.assert_close(other(X), net(X))
        assert type(other.chain) is type(net.chain)
    with settings.context(module_local_params=True):
        assert set(sites(net, X)) == expected


@pytest.mark.parametrize(
    ("layer", "args", "name"),
    [
        (lambda: PyroModule[nn.GRU](2, 3), (torch.zeros(5, 1, 2),), "weight_ih_l0"),
        (lambda: PyroModule[nn.LSTMCell](2, 3), (torch.zeros(1, 2),), "weight_hh"),
        (lambda: PyroModule[nn.Conv1d](1, 2, 3), (torch.zeros(1, 1, 8),), "weight"),
        (lambda: PyroModule[nn.Embedding](4, 2), (torch.tensor([1, 2]),), "weight"),
        (lambda: PyroModule[nn.LayerNorm](2), (X,), "bias"),
    ],
    ids=["GRU", "LSTMCell", "Conv1d", "Embedding", "LayerNorm"],
)
def test_layers_with_random_weights(layer, args, name):
    net = layer()
    names = [each for each, _ in net.named_parameters()]
    assert sites(net, *args) == dict.fromkeys(names, "param")
    setattr(net, name, PyroSample(standard(getattr(net, name))))
    assert sites(net, *args) == {**dict.fromkeys(names, "param"), name: "sample"}
    first, second = (net(*args) for _ in range(2))
    first, second = (each[0] if isinstance(each, tuple) else each for each in (first, second))
    assert net(*args) is not None and first.shape == second.shape


def test_a_subclass_of_a_layer_computes_priors_from_itself():
    class Scaled(PyroModule[nn.Linear]):
        def __init__(self, fan_in, fan_out):
            super().__init__(fan_in, fan_out)
            self.scale = PyroParam(torch.tensor(2.0), dist.constraints.positive)

        @PyroSample
        def weight(self):
            return dist.Normal(0.0, self.scale).expand([self.out_features, self.in_features]).to_event(2)

    net = Scaled(2, 3)
    found = poutine.trace(net).get_trace(X)
    assert set(found.nodes) >= {"scale", "weight", "bias"}
    assert found.nodes["weight"]["fn"].base_dist.scale.unique().item() == pytest.approx(2.0)


def test_random_module_and_lift_on_a_network():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    priors = {name: standard(value) for name, value in net.named_parameters()}
    with pytest.warns(FutureWarning, match="PyroModule"):
        random_net = ember.random_module("net", net, priors)

    def model(y=None):
        drawn = random_net()
        with ember.plate("rows", len(X)):
            ember.sample("y", dist.Normal(drawn(X).squeeze(-1), 0.1), obs=y)

    expected = {f"net$$${name}" for name in priors}
    assert {name for name, kind in sites(model).items() if kind == "sample"} - {"y", "rows"} == expected
    guide = AutoDiagonalNormal(model)
    svi = SVI(model, guide, optim.Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(torch.ones(4)) for _ in range(100)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])

    to_pyro_module_(net)
    assert sites(poutine.lift(net, prior=priors), X) == dict.fromkeys(priors, "sample")


def test_a_random_network_under_nuts_predicts():
    class Regression(PyroModule):
        def __init__(self):
            super().__init__()
            self.linear = PyroModule[nn.Linear](2, 1)
            for name, value in list(self.linear.named_parameters()):
                setattr(self.linear, name, PyroSample(standard(value)))
            self.scale = PyroSample(dist.HalfNormal(1.0))

        def forward(self, x, y=None):
            mean, scale = self.linear(x).squeeze(-1), self.scale
            with ember.plate("data", len(x)):
                return ember.sample("y", dist.Normal(mean, scale), obs=y)

    model = Regression()
    mcmc = MCMC(NUTS(model), num_samples=30, warmup_steps=30, disable_progbar=True)
    mcmc.run(X, X.sum(-1))
    draws = mcmc.get_samples()
    assert {name: tuple(value.shape) for name, value in draws.items()} == {
        "linear.weight": (30, 1, 2),
        "linear.bias": (30, 1),
        "scale": (30,),
    }
    assert Predictive(model, draws)(X)["y"].shape == (30, 4)


def test_functional_calls_buffers_and_dtypes():
    class Net(PyroModule):
        def __init__(self):
            super().__init__()
            self.register_buffer("centre", torch.ones(2))
            self.scale = PyroParam(torch.tensor(1.0), dist.constraints.positive)
            self.z = PyroSample(lambda self: dist.Normal(self.centre, self.scale).to_event(1))

        def forward(self):
            return self.z + 0.0 * self.scale

    net = Net().double()
    assert net().dtype == torch.float64 and sites(net) == {"scale": "param", "z": "sample"}
    ember.clear_param_store()
    with settings.context(module_local_params=True):
        tiny = {"scale_unconstrained": torch.tensor(-30.0, dtype=torch.float64)}
        torch.testing.assert_close(torch.func.functional_call(net, tiny, ()), net.centre)
        guide = AutoNormal(net)
        svi = SVI(net, guide, optim.Adam({"lr": 0.1}), Trace_ELBO())
        for _ in range(3):
            svi.step()
        assert list(ember.get_param_store()) == []
        assert set(guide.state_dict()) == {"locs.z_unconstrained", "scales.z_unconstrained"}
