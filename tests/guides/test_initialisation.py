"""Strategies for starting values."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.infer.autoguide import (
    InitMessenger,
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)


def model():
    ember.sample("normal", dist.Normal(3.0, 1.0).expand([2]).to_event(1))
    ember.sample("positive", dist.Gamma(2.0, 0.5))
    ember.sample("cauchy", dist.Cauchy(1.0, 1.0))
    with ember.plate("p", 3):
        ember.sample("simplex", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0])))
    ember.sample("bit", dist.Bernoulli(0.5))
    ember.sample("seen", dist.Normal(0.0, 1.0), obs=torch.tensor(9.0))


def start(strategy):
    trace = poutine.trace(InitMessenger(strategy)(model)).get_trace()
    return {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "sample"}


STRATEGIES = {
    "feasible": init_to_feasible,
    "sample": init_to_sample,
    "uniform": init_to_uniform(radius=0.5),
    "median": init_to_median(num_samples=5),
    "mean": init_to_mean(),
    "value": init_to_value(values={"positive": 2.5}),
    "generated": init_to_generated(generate=lambda: init_to_uniform()),
}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_every_strategy_gives_legal_values(strategy):
    values = start(strategy)
    assert values["normal"].shape == (2,)
    assert values["positive"] > 0
    assert values["simplex"].shape == (3, 3)
    torch.testing.assert_close(values["simplex"].sum(-1), torch.ones(3))
    assert values["bit"].item() in (0.0, 1.0)
    assert values["seen"].item() == 9.0


def test_particular_values():
    assert start(init_to_feasible)["positive"] == 1.0
    assert start(init_to_feasible)["normal"].tolist() == [0.0, 0.0]
    assert start(init_to_mean)["positive"] == 4.0
    assert start(init_to_mean)["normal"].tolist() == [3.0, 3.0]
    assert start(STRATEGIES["value"])["positive"] == 2.5
    assert abs(start(init_to_median(num_samples=2001))["cauchy"] - 1.0) < 0.2
    assert 0.6 < start(STRATEGIES["uniform"])["positive"] < 1.65


def test_generated_values_are_made_once_a_run():
    made = []

    def generate():
        made.append(None)
        return init_to_value(values={"positive": float(len(made))})

    handler = InitMessenger(init_to_generated(generate=generate))
    assert [
        float(poutine.trace(handler(model)).get_trace().nodes["positive"]["value"]) for _ in range(2)
    ] == [1, 2]


def test_without_fallback_the_site_is_named():
    with pytest.raises(ValueError, match="cannot initialise site 'normal': no value was given"):
        start(init_to_value(values={}, fallback=None))
    with pytest.raises(ValueError, match=r"starting value of site 'positive' has the wrong shape"):
        start(init_to_value(values={"positive": torch.ones(2)}))


def test_starting_draws_do_not_follow_gradients():
    scale = torch.tensor(1.0, requires_grad=True)
    handled = InitMessenger(init_to_sample)(lambda: ember.sample("x", dist.Normal(0.0, scale)))
    assert not handled().requires_grad
