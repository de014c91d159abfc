"""Check Predictive: shapes as programs rely on them, values, and its errors."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.infer import Predictive


def model(y=None, n=4):
    mu = ember.sample("mu", dist.Normal(0.0, 1.0))
    b = ember.sample("b", dist.Dirichlet(torch.ones(3)))
    ember.deterministic("d", mu * 2)
    ember.deterministic("e", b * 2)
    ember.factor("f", mu)
    with ember.plate("p", n, subsample_size=2):
        z = ember.sample("z", dist.Normal(mu, 1.0))
        return ember.sample("y", dist.Normal(z, 1.0), obs=y)


def guide(y=None, n=4):
    loc = ember.param("loc", torch.tensor(3.0))
    ember.sample("mu", dist.Normal(loc, 0.001))
    ember.sample("b", dist.Dirichlet(torch.ones(3)))
    with ember.plate("p", n, subsample_size=2):
        ember.sample("z", dist.Normal(0.0, 1.0))


def shapes(samples):
    return {name: tuple(value.shape) for name, value in samples.items()}


ALL = {"mu": (5, 1), "b": (5, 1, 3), "d": (5, 1), "e": (5, 1, 3), "f": (5, 1, 0), "z": (5, 2), "y": (5, 2)}


@pytest.mark.parametrize("parallel", [False, True])
class TestShapes:
    def test_prior(self, parallel):
        assert shapes(Predictive(model, num_samples=5, parallel=parallel)()) == ALL

    def test_observations_come_back_expanded(self, parallel):
        out = Predictive(model, num_samples=5, parallel=parallel)(torch.tensor([1.0, 2.0]))
        assert shapes(out) == ALL
        assert torch.equal(out["y"], torch.tensor([1.0, 2.0]).expand(5, 2))

    def test_posterior(self, parallel):
        mu = torch.arange(5.0) * 100
        out = Predictive(model, {"mu": mu}, parallel=parallel)()
        assert shapes(out) == {name: shape for name, shape in ALL.items() if name != "mu"}
        assert torch.equal(out["d"], 2 * mu.unsqueeze(-1))
        assert ((out["z"] - mu.unsqueeze(-1)).abs() < 10).all()
        assert ((out["y"] - out["z"]).abs() < 10).all()

    def test_vector_sites_and_deterministics_of_the_posterior(self, parallel):
        b = torch.rand(5, 3).softmax(-1)
        out = Predictive(model, {"b": b, "d": torch.zeros(5)}, parallel=parallel)()
        assert set(out) == {"mu", "e", "f", "z", "y"}
        torch.testing.assert_close(out["e"], 2 * b.unsqueeze(1))

    def test_return_sites(self, parallel):
        samples = {"mu": torch.zeros(5)}
        out = Predictive(model, samples, return_sites=("mu", "y", "_RETURN"), parallel=parallel)()
        assert shapes(out) == {"mu": (5, 1), "y": (5, 2), "_RETURN": (5, 2)}
        assert torch.equal(out["y"], out["_RETURN"])
        assert shapes(Predictive(model, samples, return_sites=None, parallel=parallel)()) == ALL

    def test_guide(self, parallel):
        out = Predictive(model, guide=guide, num_samples=5, parallel=parallel)()
        assert shapes(out) == ALL
        assert ((out["mu"] - 3.0).abs() < 0.1).all()
        torch.testing.assert_close(out["d"], 2 * out["mu"])

    def test_chains_by_draws(self, parallel):
        out = Predictive(model, {"mu": torch.arange(6.0).reshape(2, 3)}, batch_ndims=2, parallel=parallel)()
        assert out["y"].shape == (2, 3, 2)
        assert torch.equal(out["d"].squeeze(-1), 2 * torch.arange(6.0).reshape(2, 3))

    def test_undeclared_batch_dimensions(self, parallel):
        def plain():
            a = ember.sample("a", dist.Normal(torch.zeros(3), 1.0))
            ember.sample("b", dist.Normal(a * 100, 1.0))

        out = Predictive(plain, num_samples=4, parallel=parallel)()
        assert shapes(out) == {"a": (4, 3), "b": (4, 3)}
        assert ((out["b"] - 100 * out["a"]).abs() < 10).all()

    def test_no_gradients_and_clean_stack(self, parallel):
        out = Predictive(guide, num_samples=2, parallel=parallel)()
        assert not out["mu"].requires_grad
        assert poutine.runtime.handler_stack() == ()


def test_model_runs_under_a_false_mask():
    masks = []

    def watching():
        masks.append(poutine.get_mask())
        ember.sample("x", dist.Normal(0.0, 1.0))

    for parallel in (False, True):
        Predictive(watching, num_samples=2, parallel=parallel)()
    assert set(masks) == {False}


def test_vectorized_trace():
    trace = Predictive(model, {"mu": torch.arange(7.0)}).get_vectorized_trace()
    frame = trace.nodes["y"]["cond_indep_stack"][0]
    assert (frame.name, frame.dim, frame.size) == ("_num_predictive_samples", -2, 7)
    assert trace.nodes["y"]["value"].shape == (7, 2)
    assert "p" not in trace.nodes


def test_module_models_and_older_names():
    class Module(torch.nn.Module):
        def forward(self, scale):
            return ember.sample("x", dist.Normal(0.0, scale))

    predictive = Predictive(Module(), num_samples=3)
    assert predictive.get_samples(1.0)["x"].shape == predictive.call(1.0)["x"].shape == (3,)


def test_seed_fixes_the_draws():
    first, second = [], []
    for out in (first, second):
        ember.set_rng_seed(4)
        out.append(Predictive(model, num_samples=3)()["y"])
    assert torch.equal(first[0], second[0])


def test_number_of_draws_disagrees_with_num_samples():
    with pytest.warns(
        UserWarning, match="different from the provided num_samples argument 3. Defaulting to 7"
    ):
        predictive = Predictive(model, {"mu": torch.zeros(7)}, num_samples=3)
    assert predictive()["y"].shape == (7, 2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "Either posterior_samples or num_samples must be specified"),
        ({"posterior_samples": {}}, "posterior_samples is empty"),
        ({"num_samples": 0}, "num_samples must be positive, got 0"),
        (
            {"posterior_samples": {"mu": torch.zeros(2)}, "guide": guide},
            "cannot be provided with the `guide`",
        ),
        (
            {"posterior_samples": {"mu": torch.tensor(1.0)}},
            r"posterior_samples\['mu'\] has no dimension of draws",
        ),
        (
            {"posterior_samples": {"mu": torch.zeros(7), "b": torch.zeros(6, 3)}},
            r"disagree about the number of draws: 'mu' and 'b'",
        ),
        ({"num_samples": 3, "return_sites": "y"}, "must be a sequence of names, got 'y'"),
    ],
)
def test_errors(arguments, text):
    with pytest.raises(ValueError, match=text):
        Predictive(model, **arguments)


def test_sites_whose_shape_changes_are_named():
    def growing():
        count.append(1)
        ember.sample("x", dist.Normal(torch.zeros(len(count)), 1.0))

    count = []
    with pytest.raises(ValueError, match="site 'x' has different shapes"):
        Predictive(growing, num_samples=3)()


def test_statistics_of_the_posterior_predictive():
    def simple():
        mu = ember.sample("mu", dist.Normal(0.0, 1.0))
        ember.sample("y", dist.Normal(mu, 0.5))

    ember.set_rng_seed(0)
    mu = torch.randn(4000) * 2.0 + 1.0
    y = Predictive(simple, {"mu": mu}, parallel=True)()["y"]
    assert float(y.mean()) == pytest.approx(1.0, abs=0.15)
    assert float(y.std()) == pytest.approx((4.0 + 0.25) ** 0.5, abs=0.1)
