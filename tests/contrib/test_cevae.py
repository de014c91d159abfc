"""Check causal effects that hidden causes confound."""

import pytest
import torch

import ember
from ember.contrib.cevae import (
    CEVAE,
    BernoulliNet,
    DiagNormalNet,
    DistributionNet,
    FullyConnected,
    PreWhitener,
    StudentTNet,
    TraceCausalEffect_ELBO,
)


def data(n=400):
    """Those with z = 1 are treated more often and fare better anyway; the treatment itself adds 1."""
    z = torch.bernoulli(torch.full((n,), 0.5))
    x = z[:, None] + 0.4 * torch.randn(n, 5)
    t = torch.bernoulli(0.2 + 0.6 * z)
    y = 1.0 * t + 2.0 * z + 0.3 * torch.randn(n)
    return x, t, y


@pytest.mark.parametrize("family", ["bernoulli", "exponential", "laplace", "normal", "studentt"])
def test_all_families_of_outcomes(family):
    x, t, y = data(20)
    y = (y > 1).float() if family == "bernoulli" else y.abs() + 0.01
    model = CEVAE(5, family, latent_dim=2, hidden_dim=8, num_layers=2, num_samples=7)
    losses = model.fit(x, t, y, num_epochs=1, batch_size=10, log_every=0)
    assert len(losses) == 2 and all(loss == loss for loss in losses)
    assert model.ite(x).shape == model.ite(x, num_samples=3, batch_size=6).shape == (20,)


def test_the_loss_is_the_negative_bound_without_the_predictions():
    x, t, y = data(6)
    model = CEVAE(5, "normal", latent_dim=2, hidden_dim=8, num_layers=2)
    ember.set_rng_seed(1)
    loss = TraceCausalEffect_ELBO().loss(model.model, model.guide, x, t, y, size=12)
    ember.set_rng_seed(1)
    guide = ember.poutine.trace(model.guide).get_trace(x, t, y, size=12)
    run = ember.poutine.replay(model.model, trace=guide)
    joint = ember.poutine.trace(run).get_trace(x, t, y, size=12)
    joint.compute_log_prob(), guide.compute_log_prob()
    q = {name: guide.nodes[name]["log_prob_sum"] for name in "tyz"}
    p = sum(joint.nodes[name]["log_prob_sum"] for name in "xtyz")
    assert loss == pytest.approx(-(p - q["z"] + q["t"] + q["y"]).item(), rel=1e-5)


def test_effects_are_not_confounded():
    x, t, y = data()
    naive = y[t == 1].mean() - y[t == 0].mean()
    assert naive > 1.8
    model = CEVAE(5, "normal", latent_dim=2, hidden_dim=16, num_layers=2)
    losses = model.fit(x, t, y, num_epochs=40, batch_size=100, learning_rate=0.01, log_every=0)
    assert losses[-1] < losses[0]
    assert model.ite(x, num_samples=50).mean().item() == pytest.approx(1.0, abs=0.4)


def test_networks():
    x, _, _ = data(30)
    assert [type(each).__name__ for each in FullyConnected([3, 8, 2])] == ["Linear", "ELU", "Linear"]
    loc, scale = DiagNormalNet([5, 8, 2])(x)
    assert loc.shape == scale.shape == (30, 2) and scale.min() > 0
    df, *_ = StudentTNet([5, 8])(x)
    assert df.min() > 1.0 and DistributionNet.get_class("bernoulli") is BernoulliNet
    white = PreWhitener(torch.cat([x, torch.ones(30, 1)], -1))
    moved = white(torch.cat([x, torch.ones(30, 1)], -1))
    torch.testing.assert_close(moved[:, :5].std(0), torch.ones(5))
    assert torch.equal(moved[:, 5], torch.zeros(30))


def test_mistakes_are_named():
    x, t, y = data(10)
    with pytest.raises(ValueError, match="dtype not supported: poisson"):
        CEVAE(5, "poisson")
    model = CEVAE(5)
    with pytest.raises(ValueError, match="not been trained"):
        model.ite(x)
    with pytest.raises(ValueError, match="Features"):
        model.fit(x[:, :2], t, y)
    with pytest.raises(ValueError, match="Treatments or outcomes"):
        model.fit(x, t[:3], y)
