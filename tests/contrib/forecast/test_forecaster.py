"""Check forecasts against exact posteriors, and the forms that models may have."""

import logging

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.contrib.forecast import Forecaster, ForecastingModel, HMCForecaster
from ember.contrib.forecast.time_reparam import with_time_reparam
from ember.infer.reparam import LinearHMMReparam, StableReparam, StudentTReparam


class Trend(ForecastingModel):
    """A line through the covariate, with noise of a known scale."""

    def model(self, zero_data, covariates):
        slope = ember.sample("slope", dist.Normal(torch.zeros(1), 1.0).to_event(1))
        self.predict(dist.Normal(0.0, 0.5), slope * covariates)


class Walk(ForecastingModel):
    """A random walk seen with noise, in two series or one."""

    def model(self, zero_data, covariates):
        assert zero_data.shape[-2] == covariates.shape[-2] and zero_data.abs().sum() == 0
        width = zero_data.shape[-1]
        with self.time_plate as steps:
            assert len(steps) == covariates.shape[-2]
            step = ember.sample("step", dist.Normal(torch.zeros(width), 0.3).to_event(1))
        self.predict(dist.Normal(torch.zeros(width), 0.5).to_event(1), step.cumsum(-2))


def trend(n=20, ahead=5):
    t = torch.linspace(0.0, 2.0, n + ahead)[:, None]
    return t, 1.5 * t[:n] + 0.5 * torch.randn(n, 1)


def exact_trend(t, data):
    past = t[: len(data)]
    precision = 1.0 + past.square().sum() / 0.25
    mean = (past * data).sum() / 0.25 / precision
    future = t[len(data) :]
    return future * mean, (future.square() / precision + 0.25).sqrt()


def test_forecasts_of_a_trend_are_exact(caplog):
    t, data = trend()
    with caplog.at_level(logging.INFO):
        forecaster = Forecaster(Trend(), data, t[:20], learning_rate=0.05, num_steps=400, log_every=0)
    assert "eager" not in caplog.text  # trained as machine code
    assert len(forecaster.losses) == 400 and forecaster.losses[-1] < forecaster.losses[0]
    draws = forecaster(data, t, num_samples=2000, batch_size=900)
    assert draws.shape == (2000, 5, 1)
    mean, scale = exact_trend(t, data)
    torch.testing.assert_close(draws.mean(0), mean, atol=0.08, rtol=0)
    torch.testing.assert_close(draws.std(0), scale, atol=0.06, rtol=0)
    assert forecaster(data, t[:20], num_samples=3).shape == (3, 0, 1)


def walk_moments(data, ahead):
    """Return mean and covariance of what follows a random walk with noise."""
    n = len(data) + ahead
    index = torch.arange(1.0, n + 1.0)
    covariance = 0.09 * torch.minimum(index[:, None], index) + 0.25 * torch.eye(n)
    gain = covariance[-ahead:, : len(data)] @ covariance[: len(data), : len(data)].inverse()
    return gain @ data, covariance[-ahead:, -ahead:] - gain @ covariance[: len(data), -ahead:]


def test_walks_go_on_from_where_they_are():
    data = torch.cat([torch.randn(8, 1).mul(0.3).cumsum(0) + 2.0, torch.randn(8, 1)], -1)
    forecaster = HMCForecaster(Walk(), data, num_warmup=300, num_samples=1000)
    draws = forecaster(data, torch.zeros(11, 0), num_samples=1000)
    mean, covariance = walk_moments(data, 3)
    torch.testing.assert_close(draws.mean(0), mean, atol=0.15, rtol=0)
    torch.testing.assert_close(draws[..., 0].T.cov(), covariance, atol=0.15, rtol=0)
    assert forecaster(data, torch.zeros(9, 0), num_samples=1500, batch_size=700).shape == (1500, 1, 2)


@pytest.mark.parametrize("kind", ["dct", "haar"])
def test_series_are_drawn_as_coefficients_of_the_same_density(kind):
    data, covariates = torch.randn(7, 2), torch.zeros(7, 0)
    walk = Walk()
    trace = poutine.trace(with_time_reparam(walk, kind)).get_trace(data, covariates)
    coefficients = trace.nodes[f"step_{kind}"]
    assert coefficients["value"].shape == (1, 7, 2) and coefficients["fn"].event_shape == (7, 2)
    plain = poutine.condition(walk, {"step": trace.nodes["step"]["value"]})
    expected = poutine.trace(plain).get_trace(data, covariates).log_prob_sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)
    for maker in (
        lambda: Forecaster(walk, data, covariates, time_reparam=kind, num_steps=5, log_every=0),
        lambda: HMCForecaster(walk, data, time_reparam=kind, num_warmup=5, num_samples=5),
    ):
        assert maker()(data, torch.zeros(9, 0), num_samples=4).shape == (4, 2, 2)


def hmm(duration, cls=dist.GaussianHMM, noise=lambda: dist.Normal(torch.zeros(1), 0.3)):
    eye = torch.eye(1)
    return cls(noise().to_event(1), eye, noise().to_event(1), eye, noise().to_event(1), duration=duration)


NOISES = {
    "independent": lambda duration: dist.Normal(torch.zeros(duration, 1), 0.3).to_event(2),
    "student": lambda duration: dist.StudentT(4.0, 0.0, 0.3),
    "multivariate": lambda duration: dist.MultivariateNormal(torch.zeros(1), torch.eye(1)),
    "hmm": hmm,
    "linear": lambda duration: hmm(duration, dist.LinearHMM, lambda: dist.StudentT(4.0, torch.zeros(1), 0.3)),
    "stable": lambda duration: dist.Stable(1.5, 0.0, 0.3),
}
STRATEGIES = {
    "linear": lambda: LinearHMMReparam(StudentTReparam(), StudentTReparam(), StudentTReparam()),
    "stable": StableReparam,
}


@pytest.mark.parametrize("kind", NOISES)
def test_noise_of_many_kinds(kind):
    class Model(ForecastingModel):
        def model(self, zero_data, covariates):
            slope = ember.sample("slope", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            config = {"residual": STRATEGIES[kind]()} if kind in STRATEGIES else {}
            with poutine.reparam(config=config):
                self.predict(NOISES[kind](len(covariates)), slope * covariates)

    t, data = trend(8, 3)
    forecaster = Forecaster(Model(), data, t[:8], num_steps=40, log_every=0)
    draws = forecaster(data, t, num_samples=5)
    assert draws.shape == (5, 3, 1) and torch.isfinite(draws).all() and draws.std(0).min() > 0


def test_noise_that_depends_on_its_past_is_conditioned():
    class Model(ForecastingModel):
        def model(self, zero_data, covariates):
            ember.sample("idle", dist.Normal(0.0, 1.0))
            self.predict(hmm(len(covariates)), torch.zeros(len(covariates), 1))

    data = 2.0 + torch.randn(8, 1)
    forecaster = Forecaster(Model(), data, torch.zeros(8, 0), num_steps=1, log_every=0)
    draws = forecaster(data, torch.zeros(10, 0), num_samples=3000)
    expected = hmm(10).prefix_condition(data).sample((3000,))
    torch.testing.assert_close(draws.mean(0), expected.mean(0), atol=0.06, rtol=0)
    torch.testing.assert_close(draws.std(0), expected.std(0), atol=0.06, rtol=0)


def test_many_series_share_a_plate():
    class Model(ForecastingModel):
        def model(self, zero_data, covariates):
            scale = ember.sample("scale", dist.LogNormal(torch.zeros(1), 1.0).to_event(1))
            with ember.plate("series", zero_data.shape[0], dim=-2):
                start = ember.sample("start", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                with self.time_plate:
                    step = ember.sample("step", dist.Normal(torch.zeros(1), scale).to_event(1))
                self.predict(dist.Normal(0.0, 0.5), start + step.cumsum(-2))

    data, covariates = torch.randn(3, 6, 1), torch.zeros(6, 0)
    for kind in (None, "dct"):
        ember.clear_param_store()
        forecaster = Forecaster(Model(), data, covariates, time_reparam=kind, num_steps=5, log_every=0)
        assert forecaster.max_plate_nesting == 2
        assert forecaster(data, torch.zeros(8, 0), num_samples=4).shape == (4, 3, 2, 1)


def test_options_of_the_training():
    t, data = trend(8, 3)
    first = Forecaster(
        Trend(), data[:6], t[:6], num_steps=3, dct_gradients=True, num_particles=2, log_every=0
    )
    before = first.guide.locs.slope.detach().clone()
    warm = Forecaster(Trend(), data, t[:8], num_steps=0, warm_start=True, log_every=0)
    assert torch.equal(warm.guide.locs.slope, before)


def test_mistakes_are_named():
    t, data = trend(8, 3)
    with pytest.raises(ValueError, match="do not fit together"):
        Trend()(data, t[:5])
    with pytest.raises(ValueError, match="one duration"):
        Forecaster(Trend(), data, t)
    with pytest.raises(ValueError, match="no such time_reparam"):
        Forecaster(Trend(), data, t[:8], time_reparam="fourier")
    with pytest.raises(RuntimeError, match="only while Trend is being called"):
        _ = Trend().time_plate

    class Silent(ForecastingModel):
        def model(self, zero_data, covariates):
            pass

    with pytest.raises(RuntimeError, match="made no prediction"):
        Silent()(data, t)
