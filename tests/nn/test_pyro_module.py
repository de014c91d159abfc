"""Modules in the language: names, statements, copies, conversion, module-local parameters."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import ember
import ember.distributions as dist
from ember import optim, poutine, settings
from ember.distributions import constraints
from ember.infer import SVI, Trace_ELBO
from ember.infer.autoguide import AutoNormal
from ember.nn import PyroModule, PyroModuleList, PyroParam, PyroSample, clear, pyro_method, to_pyro_module_


def prior_of_c(module):
    return dist.Normal(module.b.sum(), 1.0)


class Net(PyroModule):
    def __init__(self, name=""):
        super().__init__(name)
        self.plain = nn.Linear(2, 1)
        self.mixed = PyroModule[nn.Linear](2, 1)
        self.mixed.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))
        self.a = nn.Parameter(torch.zeros(2))
        self.b = PyroParam(torch.ones(3), constraints.positive)
        self.c = PyroSample(prior_of_c)
        self.layers = PyroModuleList([PyroModule[nn.Linear](1, 1)])

    @PyroParam(constraint=constraints.positive)
    def d(self):
        return torch.tensor(2.0)

    @PyroSample
    def e(self):
        return dist.Normal(self.c, self.d)

    def forward(self, x):
        y = self.plain(x) + self.mixed(x) + self.a.sum() + self.b.sum() + self.e + self.c
        for layer in self.layers:
            y = layer(y)
        return y


def sites(fn, *args, kind=None):
    trace = poutine.trace(fn).get_trace(*args)
    return [
        name
        for name, site in trace.nodes.items()
        if site["type"] in ((kind,) if kind else ("sample", "param"))
    ]


@pytest.mark.parametrize("name, prefix", [("", ""), ("net", "net.")])
def test_attributes_are_statements_under_full_names(name, prefix):
    net = Net(name)
    params = [
        "plain$$$weight",
        "plain$$$bias",
        "mixed.bias",
        "a",
        "b",
        "d",
        "layers.0.weight",
        "layers.0.bias",
    ]
    draws = ["mixed.weight", "c", "e"]
    x = torch.zeros(2)
    assert sorted(sites(net, x, kind="param")) == sorted(prefix + each for each in params)
    assert sorted(sites(net, x, kind="sample")) == sorted(prefix + each for each in draws)
    assert sorted(ember.get_param_store()) == sorted(prefix + each for each in params)
    # The module's own parameters are the store's leaves.
    store = ember.get_param_store()
    assert store.leaf(prefix + "b") is dict(net.named_parameters())["b_unconstrained"]
    assert store.leaf(prefix + "plain$$$bias") is net.plain.bias


def test_nothing_is_registered_outside_of_calls():
    net = Net()
    assert net.b.tolist() == [1.0, 1.0, 1.0]
    assert net.c.shape == ()
    assert net.c != net.c  # a fresh draw each time
    assert len(ember.get_param_store()) == 0


def test_one_draw_for_each_call():
    class Twice(PyroModule):
        def __init__(self):
            super().__init__()
            self.z = PyroSample(dist.Normal(0.0, 1.0))

        def forward(self):
            return self.z, self.z

        @pyro_method
        def other(self):
            return self.z, self()[0]

    module = Twice()
    first, second = module()
    assert first is second
    assert module()[0] != first
    one, inner = module.other()
    assert one is inner


def test_assignment_keeps_the_constraint():
    net = Net()
    net.b = torch.full((3,), 4.0)
    torch.testing.assert_close(net.b, torch.full((3,), 4.0))
    assert "b_unconstrained" in dict(net.named_parameters())
    with pytest.raises(ValueError, match=r"value of parameter 'b' violates its constraint"):
        net.b = PyroParam(torch.tensor(-1.0), constraints.positive)
    with pytest.raises(ValueError, match=r"value of parameter 'd' violates its constraint"):
        net.d = torch.tensor(-1.0)
    net.d = torch.tensor(3.0)
    torch.testing.assert_close(net.d, torch.tensor(3.0))
    with pytest.raises(ValueError, match=r"value of parameter 'b' violates its constraint"):
        net.b = -net.b.detach()
    assert net.b.tolist() == pytest.approx([4.0] * 3)


def test_attributes_change_their_kind_and_leave_the_store():
    net = Net()
    net(torch.zeros(2))
    net.a = PyroSample(dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    assert "a" not in ember.get_param_store()
    assert "a" in sites(net, torch.zeros(2), kind="sample")
    del net.b
    assert not hasattr(net, "b")
    assert "b" not in ember.get_param_store()


def test_the_store_wins_after_loading(tmp_path):
    net = Net("net")
    net(torch.zeros(2))
    with torch.no_grad():
        ember.get_param_store().leaf("net.b").add_(1.0)
    expected = net.b.detach().clone()
    ember.get_param_store().save(tmp_path / "params")
    ember.clear_param_store()
    ember.get_param_store().load(tmp_path / "params")
    again = Net("net")
    again(torch.zeros(2))
    torch.testing.assert_close(again.b.detach(), expected)


def test_deepcopy_pickle_and_state_dict():
    net = Net()
    x = torch.ones(2)
    net(x)
    ember.clear_param_store()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert type(other.mixed) is type(net.mixed)
        torch.testing.assert_close(other.b, net.b)
        assert sites(other, x) == sites(net, x)
        ember.clear_param_store()
    fresh = Net()
    fresh.d  # noqa: B018 - makes the parameter
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    torch.testing.assert_close(fresh.plain.weight, net.plain.weight)
    assert set(fresh.state_dict()) >= {"a", "b_unconstrained", "mixed.bias", "layers.0.weight"}


def test_mixed_classes():
    assert PyroModule[nn.Linear] is PyroModule[nn.Linear]
    assert issubclass(PyroModule[nn.Linear], nn.Linear)
    assert issubclass(PyroModule[nn.Linear], PyroModule)
    assert PyroModule[Net] is Net
    assert PyroModule[nn.Module] is PyroModule
    with pytest.raises(TypeError, match=r"takes a subclass of torch\.nn\.Module"):
        PyroModule[int]


def test_conversion_in_place():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 1)))
    expected = net(torch.ones(2))
    to_pyro_module_(net)
    assert isinstance(net, PyroModule)
    assert sites(net, torch.ones(2)) == ["0.weight", "0.bias", "2.0.weight", "2.0.bias"]
    torch.testing.assert_close(net(torch.ones(2)), expected)
    for module in net.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            setattr(module, name, PyroSample(dist.Normal(0.0, 1.0).expand(value.shape).to_event()))
    assert sites(net, torch.ones(2), kind="param") == []
    assert len(sites(net, torch.ones(2), kind="sample")) == 4
    with pytest.raises(TypeError, match="takes an instance"):
        to_pyro_module_(nn.Linear)


def test_clear_empties_module_and_store():
    net = Net("net")
    net(torch.zeros(2))
    ember.param("other", torch.zeros(1))
    clear(net)
    assert list(ember.get_param_store()) == ["other"]
    assert list(net.parameters()) == []


def test_named_pyro_params_are_constrained():
    values = dict(Net().named_pyro_params())
    assert values["b"].tolist() == [1.0, 1.0, 1.0]
    assert {"a", "plain.weight", "mixed.bias", "layers.0.bias"} <= set(values)


def test_module_local_params_do_not_mix():
    with settings.context(module_local_params=True):
        one, two = Net(), Net()
        with torch.no_grad():
            two.a.add_(1.0)
        trace = poutine.trace(one).get_trace(torch.zeros(2))
        other = poutine.trace(two).get_trace(torch.zeros(2))
    assert len(ember.get_param_store()) == 0
    assert trace.nodes["a"]["value"].tolist() == [0.0, 0.0]
    assert other.nodes["a"]["value"].tolist() == [1.0, 1.0]
    assert trace.nodes["b"]["value"].unconstrained() is one.b_unconstrained
    assert "plain$$$weight" in trace.nodes


def test_lift_and_substitute_see_module_parameters():
    net = PyroModule[nn.Linear](2, 1)
    prior = {"bias": dist.Normal(0.0, 1.0).expand([1]).to_event(1)}
    lifted = poutine.trace(poutine.lift(net, prior=prior)).get_trace(torch.zeros(2))
    assert lifted.nodes["bias"]["type"] == "sample"
    assert lifted.nodes["weight"]["type"] == "param"
    assert poutine.substitute(net, data={"bias": torch.tensor([7.0])})(torch.zeros(2)).item() == 7.0


def test_event_dim_lets_plates_slice():
    class Plated(PyroModule):
        def __init__(self):
            super().__init__()
            self.loc = PyroParam(torch.arange(10.0), event_dim=0)

        def forward(self):
            with ember.plate("data", 10, subsample_size=4) as ind:
                return ind, self.loc

    indices, value = Plated()()
    assert torch.equal(value, indices.float())


def test_bayesian_network_regression():
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-1, 1, 60).unsqueeze(-1)
    y = (x**3 - x).squeeze(-1) + 0.05 * torch.randn(60, generator=generator)

    class Regression(PyroModule):
        def __init__(self):
            super().__init__()
            self.hidden = PyroModule[nn.Linear](1, 12)
            self.out = PyroModule[nn.Linear](12, 1)
            for layer in (self.hidden, self.out):
                for name, value in list(layer.named_parameters()):
                    setattr(layer, name, PyroSample(dist.Normal(0.0, 1.0).expand(value.shape).to_event()))

        def forward(self, x, y=None):
            mean = self.out(torch.tanh(3 * self.hidden(x))).squeeze(-1)
            with ember.plate("data", len(x)):
                ember.sample("y", dist.Normal(mean, 0.05), obs=y)
            return mean

    model = Regression()
    guide = AutoNormal(model, init_scale=0.02)
    svi = SVI(model, guide, optim.Adam({"lr": 0.02}), Trace_ELBO())
    losses = [svi.step(x, y) for _ in range(900)]
    assert sum(losses[-50:]) < 0.25 * sum(losses[:50])
    draws = [poutine.replay(model, trace=poutine.trace(guide).get_trace(x))(x) for _ in range(50)]
    error = (torch.stack(draws).mean(0) - (x**3 - x).squeeze(-1)).abs().mean()
    assert error < 0.06
    assert "hidden.weight" in guide.median()
