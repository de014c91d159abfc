"""Check guides written by hand for groups of sites."""

from functools import partial

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.contrib.easyguide import EasyGuide, easy_guide
from ember.infer import SVI, Trace_ELBO


def model(data, subsample_size=2):
    scale = ember.sample("scale", dist.LogNormal(0.0, 1.0))
    ember.sample("mix", dist.Dirichlet(torch.ones(3)))
    with ember.plate("d", 5, subsample_size=subsample_size, dim=-1) as chosen:
        x = ember.sample("x", dist.Normal(0.0, scale))
        ember.sample("y", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with ember.plate("e", 3, dim=-2):
            ember.sample("w", dist.Gamma(1.0, 1.0))
        ember.sample("obs", dist.Normal(x, 1.0), obs=data[chosen])


def test_groups_are_unpacked_with_the_right_density():
    seen = {}

    @easy_guide(model)
    def guide(self, data):
        first = self.group(match="scale|mix")
        assert first.event_shape == (3,)  # a simplex of 3 has 2 free dims
        z, seen["first"] = first.sample("first", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        assert z.shape == (3,) and first.guide is self
        with self.plate("d", 5, subsample_size=2, dim=-1):
            second = self.group(match="x|y")
            assert second.event_shape == (3,)
            second.sample("second", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            with self.plate("e", 3, dim=-2):
                self.group(match="w").sample("third", dist.Normal(torch.zeros(1), 1.0).to_event(1))

    assert guide.model is model and guide.prototype_trace is None
    trace = poutine.trace(guide).get_trace(torch.zeros(5))
    assert set(seen["first"]) == {"scale", "mix"}
    trace.compute_log_prob()
    for name in ("x", "y"):
        assert trace.nodes[name]["fn"].batch_shape == (2,) and trace.nodes[name]["scale"] == 2.5
    assert trace.nodes["second"]["infer"]["is_auxiliary"] and trace.nodes["w"]["value"].shape == (3, 2)
    z, scale = trace.nodes["first"]["value"], trace.nodes["scale"]["value"]
    joint = trace.nodes["scale"]["log_prob"] + dist.Normal(0.0, 1.0).log_prob(z[0])
    torch.testing.assert_close(joint, dist.LogNormal(0.0, 1.0).log_prob(scale))
    replayed = poutine.trace(poutine.replay(model, trace=trace)).get_trace(torch.zeros(5))
    assert torch.equal(replayed.nodes["w"]["value"], trace.nodes["w"]["value"])


def test_all_sites_in_one_group():
    @easy_guide(partial(model, subsample_size=None))
    def guide(self, data):
        group = self.group()
        assert group.event_shape == (1 + 2 + 5 + 10 + 15,)
        group.sample("all", dist.Normal(torch.zeros(group.event_shape), 1.0).to_event(1))

    trace = poutine.trace(guide).get_trace(torch.zeros(5))
    shapes = {name: tuple(trace.nodes[name]["value"].shape) for name in ("scale", "mix", "x", "y", "w")}
    assert shapes == {"scale": (), "mix": (3,), "x": (5,), "y": (5, 2), "w": (3, 5)}


def test_points_are_parameters_of_full_size():
    class Points(EasyGuide):
        def guide(self, data):
            self.map_estimate("scale")
            with self.plate("d", 5, subsample_size=2, dim=-1):
                x = self.map_estimate("x")
                assert x.shape == (2,)
                assert self.group("y").map_estimate()["y"].shape == (2, 2)

        def init(self, site):
            return torch.full_like(site["value"], 0.5)

    guide = Points(model)
    guide(torch.zeros(5))
    shapes = {name: tuple(value.shape) for name, value in ember.get_param_store().items()}
    assert shapes == {"Points.scale": (), "Points.x": (5,), "Points.y": (5, 2)}
    assert set(dict(guide.named_parameters())) == {f"{name}_unconstrained" for name in ("scale", "x", "y")}
    assert guide.scale.item() == pytest.approx(0.5)


def test_a_joint_guide_is_trained_to_the_exact_posterior():
    data = torch.tensor([1.0, 2.0, 3.0])

    def line(data):
        level = ember.sample("level", dist.Normal(0.0, 1.0))
        slope = ember.sample("slope", dist.Normal(0.0, 1.0))
        with ember.plate("data", 3):
            ember.sample("obs", dist.Normal(level + slope * torch.arange(3.0), 1.0), obs=data)

    @easy_guide(line)
    def guide(self, data):
        group = self.group()
        loc = ember.param("loc", torch.zeros(group.event_shape))
        tril = ember.param("tril", torch.eye(2), constraint=dist.constraints.lower_cholesky)
        group.sample("joint", dist.MultivariateNormal(loc, scale_tril=tril))

    optimizer = ember.optim.ClippedAdam({"lr": 0.05, "lrd": 0.01 ** (1 / 1200)})
    svi = SVI(line, guide, optimizer, Trace_ELBO())
    for _ in range(1200):
        svi.step(data)
    design = torch.stack([torch.ones(3), torch.arange(3.0)], -1)
    covariance = (torch.eye(2) + design.T @ design).inverse()
    torch.testing.assert_close(ember.param("loc"), covariance @ design.T @ data, atol=0.05, rtol=0)
    tril = ember.param("tril").detach()
    torch.testing.assert_close(tril @ tril.T, covariance, atol=0.05, rtol=0)


def test_mistakes_are_named():
    @easy_guide(model)
    def nothing(self, data):
        self.group("q")

    with pytest.raises(ValueError, match="matched no model sites"):
        nothing(torch.zeros(5))

    @easy_guide(model)
    def mixed(self, data):
        self.group("x|w")

    with pytest.raises(ValueError, match="to the left of a plate of all"):
        mixed(torch.zeros(5))

    @easy_guide(model)
    def subsampled(self, data):
        self.group("scale|x")

    with pytest.raises(ValueError, match="subsampling plate"):
        subsampled(torch.zeros(5))

    @easy_guide(model)
    def unknown(self, data):
        self.map_estimate("q")

    with pytest.raises(KeyError):
        unknown(torch.zeros(5))
