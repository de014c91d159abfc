"""Check that attributes become random and take guides of their own."""

import io

import pytest
import torch
from torch.nn import Parameter

import ember
import ember.distributions as dist
from ember import poutine
from ember.contrib.gp import Parameterized
from ember.distributions import constraints
from ember.infer import SVI, Trace_ELBO
from ember.nn import PyroParam, PyroSample, pyro_method


class Line(Parameterized):
    def __init__(self):
        super().__init__()
        self.a = PyroParam(torch.tensor(2.0), constraints.positive)
        self.b = Parameter(torch.tensor(0.0))

    @pyro_method
    def model(self, x, y):
        self.set_mode("model")
        return ember.sample("y", dist.Normal(self.a * x + self.b, 0.5).to_event(1), obs=y)

    @pyro_method
    def guide(self, x, y):
        self.set_mode("guide")
        self._load_pyro_samples()


def names(module):
    return set(dict(module.named_parameters()))


def test_a_prior_comes_with_a_point_that_starts_at_the_old_value():
    line = Line()
    line.set_prior("a", dist.LogNormal(0.0, 1.0))
    assert names(line) == {"a_map_unconstrained", "b"} and line.a_map.item() == pytest.approx(2.0)
    line.autoguide("a", dist.Normal)
    assert names(line) == {"a_loc", "a_scale_unconstrained", "b"}
    line.a = PyroParam(torch.tensor(1.0), constraints.positive)
    assert names(line) == {"a_unconstrained", "b"}


def test_modes_choose_prior_or_guide():
    line = Line()
    line.a = PyroSample(lambda self: dist.LogNormal(self.b, 1.0))
    line.autoguide("a", dist.Normal)
    x = torch.zeros(3)
    model = poutine.trace(line.model).get_trace(x, x)
    assert isinstance(model.nodes["a"]["fn"], dist.LogNormal) and line.mode == "model"
    guide = poutine.trace(line.guide).get_trace(x, x)
    assert line.mode == "guide" and guide.nodes["a_latent"]["infer"]["is_auxiliary"]
    # The value's density under the guide is that of a LogNormal.
    expected = dist.LogNormal(line.a_loc, line.a_scale).log_prob(guide.nodes["a"]["value"])
    torch.testing.assert_close(guide.log_prob_sum(), expected)
    line.mode = "model"
    assert line.mode == "model" and line.a > 0
    with pytest.raises(ValueError, match="no such mode"):
        line.mode = "prior"


@pytest.mark.parametrize("family", [dist.Normal, dist.MultivariateNormal])
def test_a_gaussian_guide_finds_the_exact_posterior(family):
    class Means(Parameterized):
        def __init__(self):
            super().__init__()
            self.mean = PyroSample(dist.Normal(torch.zeros(2), 1.0).to_event(1))
            self.autoguide("mean", family)

        @pyro_method
        def model(self, y):
            self.set_mode("model")
            mean = self.mean
            with ember.plate("data", len(y)):
                ember.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)

        @pyro_method
        def guide(self, y):
            self.set_mode("guide")
            self._load_pyro_samples()

    y = torch.randn(9, 2) + torch.tensor([1.0, -2.0])
    means = Means()
    optimizer = ember.optim.ClippedAdam({"lr": 0.03, "lrd": 0.01 ** (1 / 1200)})
    svi = SVI(means.model, means.guide, optimizer, Trace_ELBO())
    for _ in range(1200):
        svi.step(y)
    torch.testing.assert_close(means.mean_loc.detach(), y.sum(0) / 10, atol=0.05, rtol=0)
    scale = means.mean_scale if family is dist.Normal else means.mean_scale_tril.diagonal()
    torch.testing.assert_close(scale.detach(), torch.full((2,), 10**-0.5), atol=0.05, rtol=0)


def test_modules_are_saved_and_copied():
    line = Line()
    line.set_prior("b", dist.Normal(0.0, 1.0))
    line.autoguide("b", dist.Normal)
    file = io.BytesIO()
    torch.save(line, file)
    file.seek(0)
    copied = torch.load(file, weights_only=False)
    copied.set_mode("guide")
    assert names(copied) == names(line) and copied.b.shape == () and line.mode == "model"


def test_guides_that_cannot_be_are_refused():
    line = Line()
    with pytest.raises(ValueError, match="no prior"):
        line.autoguide("a", dist.Normal)
    line.set_prior("a", dist.LogNormal(0.0, 1.0))
    with pytest.raises(ValueError, match="family"):
        line.autoguide("a", dist.Gamma)
