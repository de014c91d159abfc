"""Reparameterisers leave the model's law as it is, and change what is sampled."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.infer import SVI, Trace_ELBO
from ember.infer.autoguide import AutoNormal, init_to_value
from ember.infer.reparam import LocScaleReparam, TransformReparam


def draws(fn, name, count=4000):
    trace = poutine.trace(fn)
    return torch.stack([trace.get_trace().nodes[name]["value"] for _ in range(count)])


@pytest.mark.parametrize("centered", [0.0, 0.3, torch.tensor([0.0, 0.5, 1.0]), None])
@pytest.mark.parametrize("family", ["normal", "student"])
def test_loc_scale_keeps_the_law(centered, family):
    loc, scale = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0.5, 2.0, 3.0])
    fn = dist.Normal(loc, scale) if family == "normal" else dist.StudentT(8.0, loc, scale)

    def model():
        return ember.sample("x", fn.to_event(1))

    changed = poutine.reparam(model, config={"x": LocScaleReparam(centered)})
    trace = poutine.trace(changed).get_trace()
    assert not trace.nodes["x_decentered"]["is_observed"]
    assert trace.nodes["x"]["is_observed"]
    sample = draws(changed, "x", 1500)
    error = fn.stddev / 1500**0.5
    assert ((sample.mean(0) - loc).abs() < 4 * error).all()
    assert ((sample.std(0) / fn.stddev - 1).abs() < 0.12).all()


def test_loc_scale_densities_agree_by_change_of_variables():
    """log p(x) of the original is log p(auxiliary) less the log Jacobian of the map."""
    loc, scale, centered = torch.tensor(1.5), torch.tensor(2.5), 0.3

    def model():
        return ember.sample("x", dist.Normal(loc, scale))

    trace = poutine.trace(poutine.reparam(model, config={"x": LocScaleReparam(centered)})).get_trace()
    jacobian = (1 - centered) * scale.log()
    expected = dist.Normal(loc, scale).log_prob(trace.nodes["x"]["value"])
    torch.testing.assert_close(trace.log_prob_sum() - jacobian, expected)


def test_learned_centeredness_is_shared_by_the_elements_of_plates():
    def model():
        with ember.plate("data", 6, subsample_size=2):
            ember.sample("x", dist.Normal(1.0, 2.0))
            ember.sample("v", dist.Normal(torch.zeros(3), 2.0).to_event(1))

    config = {"x": LocScaleReparam(), "v": LocScaleReparam()}
    trace = poutine.trace(poutine.reparam(model, config=config)).get_trace()
    assert trace.nodes["x"]["value"].shape == (2,) and trace.nodes["v"]["value"].shape == (2, 3)
    store = ember.get_param_store()
    assert torch.equal(store["x_centered"], torch.tensor(0.5))
    assert torch.equal(store["v_centered"], torch.full((3,), 0.5))
    # Half centered: half the location, and the square root of the scale.
    auxiliary = trace.nodes["x_decentered"]["value"]
    expected = 1.0 + 2.0**0.5 * (auxiliary - 0.5)
    torch.testing.assert_close(trace.nodes["x"]["value"], expected)


def test_transform_keeps_the_law():
    def model():
        with ember.plate("data", 3):
            return ember.sample("x", dist.LogNormal(torch.tensor([0.0, 0.5, 1.0]), 0.3))

    changed = poutine.reparam(model, config={"x": TransformReparam()})
    trace = poutine.trace(changed).get_trace()
    assert trace.nodes["x_base"]["value"].shape == (3,)
    torch.testing.assert_close(trace.nodes["x"]["value"].log(), trace.nodes["x_base"]["value"])
    logs = draws(changed, "x", 1000).log()
    assert ((logs.mean(0) - torch.tensor([0.0, 0.5, 1.0])).abs() < 4 * 0.3 / 1000**0.5).all()


def test_starting_values_reach_the_auxiliary_site():
    def model():
        ember.sample("x", dist.Normal(3.0, 2.0))
        ember.sample("y", dist.LogNormal(0.0, 1.0))

    changed = poutine.reparam(model, config={"x": LocScaleReparam(0.0), "y": TransformReparam()})
    guide = AutoNormal(changed, init_loc_fn=init_to_value(values={"x_decentered": torch.tensor(-0.5)}))
    guide()
    assert ember.get_param_store()["AutoNormal.locs.x_decentered"].item() == -0.5


def test_decentering_helps_where_it_should():
    def model():
        tau = ember.sample("tau", dist.LogNormal(0.0, 1.0))
        with ember.plate("data", 4):
            theta = ember.sample("theta", dist.Normal(0.0, tau))
            ember.sample("y", dist.Normal(theta, 5.0), obs=torch.tensor([1.0, -2.0, 0.5, 3.0]))

    losses = {}
    for name, target in {
        "centered": model,
        "decentered": poutine.reparam(model, config={"theta": LocScaleReparam(0.0)}),
    }.items():
        ember.clear_param_store()
        elbo = Trace_ELBO(num_particles=10, vectorize_particles=True)
        svi = SVI(target, AutoNormal(target), optim.Adam({"lr": 0.03}), elbo)
        for _ in range(400):
            svi.step()
        losses[name] = sum(svi.evaluate_loss() for _ in range(50)) / 50
    assert losses["decentered"] < losses["centered"]


def test_families_without_location_and_scale_are_refused():
    with pytest.raises(ValueError, match="LocScaleReparam cannot rewrite site 'x'"):
        poutine.reparam(lambda: ember.sample("x", dist.Gamma(1.0, 1.0)), config={"x": LocScaleReparam(0.0)})()
    with pytest.raises(ValueError, match="TransformReparam cannot rewrite site 'x'"):
        poutine.reparam(lambda: ember.sample("x", dist.Gamma(1.0, 1.0)), config={"x": TransformReparam()})()
    with pytest.raises(ValueError, match=r"centered must lie in \[0, 1\]"):
        LocScaleReparam(1.5)
