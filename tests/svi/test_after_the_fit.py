"""What one does with a fitted guide: predict in bounded memory, score observations, weigh draws."""

import math

import arviz
import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.infer import Predictive, WeighedPredictive, log_likelihood, psis_diagnostic, smooth_weights
from ember.infer.autoguide import AutoNormal, init_to_value

X = torch.linspace(-1.0, 1.0, 6)
Y = torch.tensor([-0.3, 0.1, 0.4, 0.9, 1.1, 1.6])


def model(x, y=None):
    bias = ember.sample("bias", dist.Normal(0.0, 1.0))
    with ember.plate("groups", 2, dim=-2):
        slope = ember.sample("slope", dist.Normal(1.0, 0.5))
        with ember.plate("data", len(x), dim=-1):
            mean = ember.deterministic("mean", bias + slope * x, event_dim=0)
            return ember.sample("y", dist.Normal(mean, 0.5), obs=y)


DRAWS = {"bias": torch.randn(7), "slope": torch.randn(7, 2, 1)}


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_chunks_change_no_result(size):
    whole = Predictive(model, DRAWS, parallel=True)(X)
    seen = []

    def watched(x):
        seen.append(poutine.runtime.get_plates()[0].size if poutine.runtime.get_plates() else 1)
        return model(x)

    parts = Predictive(watched, DRAWS, parallel=True, batch_size=size)(X)
    assert max(seen) <= size
    assert {name: value.shape for name, value in parts.items()} == {"mean": (7, 2, 6), "y": (7, 2, 6)}
    torch.testing.assert_close(parts["mean"], whole["mean"])
    single = Predictive(model, DRAWS, batch_size=size)(X)
    torch.testing.assert_close(single["mean"], whole["mean"])


def test_chunks_of_guides_and_of_chains():
    guide = AutoNormal(model)
    drawn = Predictive(model, guide=guide, num_samples=10, parallel=True, batch_size=4)(X)
    assert drawn["y"].shape == (10, 2, 6) and len(drawn["bias"].unique()) == 10
    chains = {name: value[:6].reshape(2, 3, *value.shape[1:]) for name, value in DRAWS.items()}
    assert Predictive(model, chains, parallel=True, batch_ndims=2, batch_size=4)(X)["y"].shape == (2, 3, 2, 6)
    with pytest.raises(ValueError, match="batch_size must be positive"):
        Predictive(model, DRAWS, batch_size=0)


@pytest.mark.parametrize("options", [{}, {"parallel": True}, {"parallel": True, "batch_size": 2}])
def test_log_likelihood_of_each_observation(options):
    actual = log_likelihood(model, DRAWS, X, Y, **options)
    mean = DRAWS["bias"].reshape(7, 1, 1) + DRAWS["slope"] * X
    torch.testing.assert_close(actual, {"y": dist.Normal(mean, 0.5).log_prob(Y)})
    chains = {name: value[:6].reshape(2, 3, *value.shape[1:]) for name, value in DRAWS.items()}
    both = log_likelihood(model, chains, X, Y, batch_ndims=2, **options)["y"]
    torch.testing.assert_close(both, actual["y"][:6].reshape(2, 3, 2, 6))
    data = arviz.from_dict(posterior={"bias": chains["bias"].numpy()}, log_likelihood={"y": both.numpy()})
    assert set(data.log_likelihood["y"].dims) == {"chain", "draw", "y_dim_0", "y_dim_1"}


def test_log_likelihood_counts_masks_but_no_scales():
    def masked(y):
        loc = ember.sample("loc", dist.Normal(0.0, 1.0))
        ember.factor("f", -loc.square())
        with ember.plate("data", 3), poutine.scale(scale=10.0):
            with poutine.mask(mask=torch.tensor([True, False, True])):
                ember.sample("y", dist.Normal(loc, 1.0), obs=y)

    draws = {"loc": torch.tensor([0.5, -1.0])}
    expected = dist.Normal(draws["loc"].unsqueeze(-1), 1.0).log_prob(Y[:3]) * torch.tensor([1.0, 0.0, 1.0])
    for parallel in (False, True):
        torch.testing.assert_close(log_likelihood(masked, draws, Y[:3], parallel=parallel), {"y": expected})


def test_log_likelihood_refuses_what_has_none():
    with pytest.raises(ValueError, match="no draws of the latent site 'slope'"):
        log_likelihood(model, {"bias": DRAWS["bias"]}, X, Y)
    with pytest.raises(ValueError, match="posterior_samples is empty"):
        log_likelihood(model, {}, X, Y)
    with pytest.raises(ValueError, match="batch_size"):
        log_likelihood(model, DRAWS, X, Y, batch_size=-1)

    def minibatch():
        loc = ember.sample("loc", dist.Normal(0.0, 1.0))
        with ember.plate("data", 6, subsample_size=2) as index:
            ember.sample("y", dist.Normal(loc, 1.0), obs=Y[index])

    with pytest.raises(ValueError, match="plate 'data' draws a minibatch"):
        log_likelihood(minibatch, {"loc": torch.zeros(3)})


def conjugate(y=None):
    loc = ember.sample("loc", dist.Normal(0.0, 1.0))
    with ember.plate("data", 4):
        return ember.sample("y", dist.Normal(loc, 1.0), obs=y)


DATA = torch.tensor([0.9, 1.4, 0.2, 1.5])
MEAN, SCALE = DATA.sum() / 5, 5**-0.5


def off_guide(y=None):
    ember.sample("loc", dist.Normal(MEAN - 0.3, 1.4 * SCALE))


@pytest.mark.parametrize("options", [{}, {"parallel": True}, {"parallel": True, "batch_size": 700}])
def test_reweighted_draws_correct_a_guide(options):
    count = 2000 if options else 600
    result = WeighedPredictive(conjugate, guide=off_guide, num_samples=count, **options)(
        model_guide=lambda: conjugate(DATA)
    )
    loc = result.samples["loc"]
    assert loc.shape == (count,) and result.samples["y"].shape == (count, 4)
    prior = dist.Normal(0.0, 1.0).log_prob(loc)
    expected = prior + dist.Normal(loc.unsqueeze(-1), 1.0).log_prob(DATA).sum(-1)
    torch.testing.assert_close(result.model_log_prob, expected)
    guide = dist.Normal(MEAN - 0.3, 1.4 * SCALE).log_prob(loc)
    torch.testing.assert_close(result.log_weights, expected - guide, rtol=1e-4, atol=1e-4)
    weights, k_hat = result.smooth()
    assert weights.exp().sum().item() == pytest.approx(1.0, abs=1e-4) and k_hat < 0.7
    for draws in (result.resample()["loc"], result.resample(300)["loc"]):
        assert draws.mean().item() == pytest.approx(MEAN.item(), abs=5 * SCALE / math.sqrt(len(draws)))
    assert result.resample(5)["y"].shape == (5, 4)


def test_k_hat_tells_good_guides_from_bad():
    def guide_of(scale):
        return lambda: ember.sample("loc", dist.Normal(MEAN, scale * SCALE))

    def fitted():
        return conjugate(DATA)

    assert psis_diagnostic(fitted, guide_of(1.3), num_particles=2000) < 0.5
    assert psis_diagnostic(fitted, guide_of(0.3), num_particles=2000, max_simultaneous_particles=500) > 0.7
    auto = AutoNormal(fitted, init_loc_fn=init_to_value(values={"loc": MEAN}), init_scale=SCALE)
    assert psis_diagnostic(fitted, auto, num_particles=500, max_plate_nesting=1) < 0.5
    weights, _ = smooth_weights(torch.zeros(200) + 1e-3 * torch.rand(200))
    torch.testing.assert_close(weights, torch.full((200,), -math.log(200)), atol=0.01, rtol=0)
