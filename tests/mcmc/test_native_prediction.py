"""Check that predictions in one compiled loop are those of the model run draw by draw."""

from __future__ import annotations

import logging

import pytest
import scipy.stats
import torch

import ember
import ember.distributions as dist
from ember import settings
from ember.engine.statistics import statistics
from ember.infer import Predictive
from ember.infer.prediction.native import WORTH_COMPILING

NUM = max(2000, WORTH_COMPILING)
SCALES = torch.tensor([0.5, 1.0, 4.0])


def model(y=None):
    mean = ember.sample("mean", dist.Normal(1.0, 2.0))
    rate = ember.sample("rate", dist.Gamma(3.0, 1.0))
    with ember.plate("groups", 3):
        effect = ember.sample("effect", dist.Normal(mean, SCALES))
        ember.sample("count", dist.Poisson(rate))
        ember.sample("y", dist.StudentT(4.0, effect, 1.0), obs=y)
    return ember.deterministic("twice", 2.0 * effect)


def both(predictive, *args):
    """Return predictions as machine code, and draw by draw."""
    with settings.context(execution="native"):
        native = predictive(*args)
    with settings.context(execution="eager"):
        return native, predictive(*args)


def test_what_is_not_drawn_is_equal():
    draws = {
        "mean": torch.randn(NUM), "rate": torch.rand(NUM) + 1.0, "effect": torch.randn(NUM, 3)
    }  # fmt: skip
    native, eager = both(Predictive(model, draws, return_sites=["twice", "y", "_RETURN"]), torch.ones(3))
    assert list(native) == list(eager)
    for name, value in eager.items():
        assert value.shape == native[name].shape and value.dtype == native[name].dtype
        torch.testing.assert_close(native[name], value)


def test_draws_follow_the_same_distributions():
    draws = {"mean": torch.full((NUM,), 2.0), "rate": torch.full((NUM,), 3.0)}
    native, eager = both(Predictive(model, draws))
    assert list(native) == list(eager)
    for name, value in eager.items():
        assert value.shape == native[name].shape and value.dtype == native[name].dtype
        for column in range(3):
            one, other = native[name][..., column].reshape(-1), value[..., column].reshape(-1)
            assert scipy.stats.ks_2samp(one.numpy(), other.numpy()).pvalue > 1e-3
    assert native["y"].unique().numel() == native["y"].numel()


def test_the_prior():
    native, _ = both(Predictive(model, num_samples=NUM))
    assert scipy.stats.kstest(native["rate"].reshape(-1).numpy(), scipy.stats.gamma(3).cdf).pvalue > 1e-3
    within = native["effect"] - native["mean"]
    torch.testing.assert_close(within.std(0), SCALES, rtol=0.1, atol=0.0)


def test_seeds():
    predictive = Predictive(model, num_samples=NUM)
    ember.set_rng_seed(1)
    first, second = predictive()["y"], predictive()["y"]
    ember.set_rng_seed(1)
    assert torch.equal(predictive()["y"], first)
    assert not torch.isclose(first, second).all(0).any()


def test_each_draw_has_a_minibatch_of_its_own():
    def subsampled():
        with ember.plate("rows", 1000, subsample_size=3) as rows:
            ember.deterministic("chosen", rows + 0)

    chosen = Predictive(subsampled, num_samples=WORTH_COMPILING)()["chosen"].reshape(-1, 3)
    assert chosen.unique().numel() > 700
    assert (chosen.sort(-1).values.diff(dim=-1) > 0).all()


def test_models_that_cannot_be_captured_run_draw_by_draw(caplog):
    def branching():
        x = ember.sample("x", dist.Normal(0.0, 1.0))
        return ember.sample("y", dist.Normal(10.0 if x > 0 else -10.0, 1.0))

    with caplog.at_level(logging.WARNING, "ember"):
        found = Predictive(branching, num_samples=WORTH_COMPILING)()
    assert torch.equal(found["x"] > 0, found["y"] > 0)
    assert "branching" in caplog.text


def test_few_draws_compile_nothing():
    before = statistics.captures
    Predictive(model, num_samples=20)()
    assert statistics.captures == before


def test_validation_is_on_again_afterwards():
    Predictive(model, num_samples=WORTH_COMPILING)()
    with pytest.raises(ValueError, match="scale"):
        dist.Normal(0.0, -1.0)
