"""Check `module` and `random_module` (behaviours 79-83)."""

import copy
import warnings

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine


class Nested(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
        self.own = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return self.inner(x) + self.own.sum()


NAMES = [
    "net$$$own",
    "net$$$inner.0.weight",
    "net$$$inner.0.bias",
    "net$$$inner.1.weight",
    "net$$$inner.1.bias",
]


def test_module_registers_every_parameter_and_returns_itself():
    net = Nested()
    assert ember.module("net", net) is net
    store = ember.get_param_store()
    assert sorted(store.keys()) == sorted(NAMES)
    assert store["net$$$inner.0.weight"] is net.inner[0].weight


def test_frozen_parameters_are_skipped_with_a_warning_in_training_only():
    net = Nested()
    net.own.requires_grad_(False)
    with pytest.warns(UserWarning, match="own was not registered"):
        ember.module("net", net)
    assert "net$$$own" not in ember.get_param_store()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ember.module("net", net.eval())


def test_stored_values_come_in_only_when_asked():
    first, second = Nested(), Nested()
    ember.module("net", first)
    ember.module("net", second)
    assert not torch.equal(second.inner[0].weight, first.inner[0].weight)
    ember.module("net", second, update_module_params=True)
    assert second.inner[0].weight is first.inner[0].weight
    assert second._parameters["own"] is ember.get_param_store()["net$$$own"]


def test_files_restore_a_module(tmp_path):
    net = Nested()
    ember.module("net", net)
    saved = copy.deepcopy(net.state_dict())
    ember.get_param_store().save(tmp_path / "f")
    ember.clear_param_store()
    ember.get_param_store().load(tmp_path / "f")
    fresh = ember.module("net", Nested(), update_module_params=True)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, saved[name])


def test_shared_parameters_are_registered_once_and_stay_shared():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    net[1].weight = net[0].weight
    ember.get_param_store().setdefault("net$$$0.weight", torch.full((2, 2), 7.0))
    ember.module("net", net, update_module_params=True)
    assert sorted(ember.get_param_store().keys()) == ["net$$$0.bias", "net$$$0.weight", "net$$$1.bias"]
    assert net[1].weight is net[0].weight and net[0].weight[0, 0] == 7.0


@pytest.mark.parametrize(
    "name, module, kind, text",
    [
        ("a$$$b", torch.nn.Linear(1, 1), ValueError, "must not contain"),
        ("net", torch.nn.Linear, TypeError, "make an instance of the class"),
        ("net", "text", TypeError, "needs an instance of torch.nn.Module"),
    ],
)
def test_misuse_is_refused(name, module, kind, text):
    with pytest.raises(kind, match=text):
        ember.module(name, module)
    assert len(ember.get_param_store()) == 0


def test_random_module_draws_modules_and_leaves_the_original():
    net = torch.nn.Linear(2, 1)
    before = copy.deepcopy(net.state_dict())
    with pytest.warns(FutureWarning, match="PyroModule"):
        prior = {
            "weight": dist.Normal(torch.zeros(1, 2), 1.0).to_event(2),
            "bias": dist.Normal(torch.zeros(1), 1.0).to_event(1),
        }
        draw = ember.random_module("net", net, prior)
    first, second = draw(), draw()
    assert isinstance(first, torch.nn.Linear) and first is not net
    assert not torch.equal(first.weight, second.weight)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert len(ember.get_param_store()) == 0
    trace = poutine.trace(lambda: draw()(torch.ones(2))).get_trace()
    assert set(trace.stochastic_nodes) == {"net$$$weight", "net$$$bias"}
    assert trace.nodes["_RETURN"]["value"].shape == (1,)


def test_random_module_takes_one_prior_for_all():
    with pytest.warns(FutureWarning):
        draw = ember.random_module(
            "net", torch.nn.Linear(2, 2, bias=False), dist.Delta(torch.eye(2), event_dim=2)
        )
    assert torch.equal(draw()(torch.tensor([3.0, 4.0])), torch.tensor([3.0, 4.0]))


def test_random_module_takes_stochastic_functions():
    def prior(init, **kwargs):
        return ember.sample("noise", dist.Normal(torch.zeros_like(init), 1.0).to_event(init.dim()))

    net = torch.nn.Linear(2, 1, bias=False)
    with pytest.warns(FutureWarning):
        draw = ember.random_module("net", net, prior)
    trace = poutine.trace(draw).get_trace()
    assert trace.stochastic_nodes == ["noise"]  # the function makes the site, not the param
    assert torch.equal(trace.nodes["_RETURN"]["value"].weight, trace.nodes["noise"]["value"])
    assert len(ember.get_param_store()) == 0


def test_random_module_refuses_what_is_no_module():
    with pytest.warns(FutureWarning), pytest.raises(TypeError, match="random_module 'net'"):
        ember.random_module("net", torch.nn.Linear, {})
