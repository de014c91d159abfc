"""Check importance sampling, its diagnostics, and particle filters against exact posteriors."""

import math

import pytest
import torch

import ember
import ember.distributions as dist
from ember.infer import (
    EmpiricalMarginal,
    Importance,
    Resampler,
    SMCFailed,
    SMCFilter,
    SMCState,
    WeighedPredictive,
    psis_diagnostic,
    vectorized_importance_weights,
)

DATA = torch.tensor([1.0, -0.4])
EVIDENCE = dist.Normal(0.0, 2.0**0.5).log_prob(DATA).sum()


def model():
    with ember.plate("data", 2):
        z = ember.sample("z", dist.Normal(0.0, 1.0))
        ember.sample("x", dist.Normal(z, 1.0), obs=DATA)
    return z.sum()


def wide_guide():
    with ember.plate("data", 2):
        ember.sample("z", dist.Normal(DATA / 2, 1.0))


def exact_guide():
    with ember.plate("data", 2):
        ember.sample("z", dist.Normal(DATA / 2, 0.5**0.5))


@pytest.mark.parametrize("guide", [None, wide_guide, exact_guide])
def test_importance_finds_evidence_and_posterior(guide):
    posterior = Importance(model, guide, num_samples=1500)
    posterior.run()
    atol = 1e-4 if guide is exact_guide else 0.15
    torch.testing.assert_close(posterior.get_log_normalizer(), EVIDENCE, atol=atol, rtol=0)
    torch.testing.assert_close(posterior.get_normalized_weights().sum(), torch.tensor(1.0))
    ess = posterior.get_ESS()
    assert 100 < ess < 1501 and (guide is not exact_guide or ess > 1499)
    marginal = EmpiricalMarginal(posterior, "z")
    tolerance = 5 * (0.5 / float(ess)) ** 0.5
    torch.testing.assert_close(marginal.mean, DATA / 2, atol=tolerance, rtol=0)
    torch.testing.assert_close(posterior.marginal().mean, DATA.sum() / 2, atol=2 * tolerance, rtol=0)


def test_empirical_marginals_need_draws_and_names():
    with pytest.raises(ValueError, match="call run"):
        EmpiricalMarginal(Importance(model, num_samples=3), "z")
    with pytest.raises(ValueError, match="no site 'w'"):
        Importance(model, num_samples=3).run().marginal("w")


def test_vectorized_weights():
    weights, model_trace, _ = vectorized_importance_weights(model, exact_guide, num_samples=50)
    torch.testing.assert_close(weights, EVIDENCE.expand(50))
    assert model_trace.nodes["z"]["value"].shape == (50, 2)
    normalized = vectorized_importance_weights(model, wide_guide, num_samples=50, normalized=True)[0]
    torch.testing.assert_close(normalized.exp().sum(), torch.tensor(1.0))


def narrow_guide():
    with ember.plate("data", 2):
        ember.sample("z", dist.Normal(DATA / 2 + 0.5, 0.25))


def test_psis_tells_good_from_bad_guides():
    assert psis_diagnostic(model, wide_guide, num_particles=2000, max_simultaneous_particles=500) < 0.4
    assert psis_diagnostic(model, narrow_guide, num_particles=2000) > 0.7
    with pytest.raises(ValueError, match="multiple"):
        psis_diagnostic(model, wide_guide, num_particles=10, max_simultaneous_particles=3)


def test_weighed_predictive():
    def free_model(data=None):
        z = ember.sample("z", dist.Normal(0.0, 1.0))
        return ember.sample("x", dist.Normal(z, 1.0), obs=data)

    def guide(data=None):
        ember.sample("z", dist.Normal(0.5, 1.0))

    def conditioned(data=None):
        return free_model(torch.tensor(1.0))

    result = WeighedPredictive(free_model, guide=guide, num_samples=1500)(model_guide=conditioned)
    weights = result.log_weights.softmax(0)
    torch.testing.assert_close(result.model_log_prob - result.guide_log_prob, result.log_weights)
    assert abs((weights * result.samples["z"]).sum() - 0.5) < 0.1
    assert abs((weights * result.samples["x"]).sum() - 0.5) < 0.2
    evidence = result.log_weights.logsumexp(0) - math.log(1500)
    assert abs(evidence - dist.Normal(0.0, 2**0.5).log_prob(torch.tensor(1.0))) < 0.1
    with pytest.raises(ValueError, match="guide"):
        WeighedPredictive(free_model, num_samples=3)()


class Walk:
    """A Gaussian walk with noisy observations."""

    def init(self, state):
        state["x"] = ember.sample("x_0", dist.Normal(0.0, 1.0))
        state["t"] = 0

    def step(self, state, y=None):
        state["t"] += 1
        state["x"] = ember.sample(f"x_{state['t']}", dist.Normal(state["x"], 0.7))
        ember.sample(f"y_{state['t']}", dist.Normal(state["x"], 0.5), obs=y)


class Bootstrap(Walk):
    def step(self, state, y=None):
        state["t"] += 1
        ember.sample(f"x_{state['t']}", dist.Normal(state["x"], 0.7))


@pytest.mark.parametrize("threshold", [0.01, 0.5, 1.0])
def test_particle_filter_agrees_with_kalman(threshold):
    data = [0.3, 1.4, 0.9, -0.2, 0.5]
    mean, variance, evidence = 0.0, 1.0, 0.0
    for y in data:
        variance += 0.49
        evidence += dist.Normal(mean, (variance + 0.25) ** 0.5).log_prob(torch.tensor(y)).item()
        gain = variance / (variance + 0.25)
        mean, variance = mean + gain * (y - mean), (1 - gain) * variance
    particles = SMCFilter(Walk(), Bootstrap(), 4000, 0, ess_threshold=threshold)
    particles.init()
    for y in data:
        particles.step(torch.tensor(y))
    law = particles.get_empirical()["x"]
    assert set(particles.get_empirical()) == {"x"}
    assert law.mean.item() == pytest.approx(mean, abs=0.06)
    assert law.variance.item() == pytest.approx(variance, rel=0.15)
    assert particles.log_evidence == pytest.approx(evidence, abs=0.2)


def test_particle_filter_says_when_it_is_lost():
    particles = SMCFilter(Walk(), Bootstrap(), 10, 0)
    particles.init()
    with ember.validation_enabled(False), pytest.raises(SMCFailed, match="lost all particles"):
        particles.step(torch.tensor(math.inf))


def test_states_hold_particles_in_front():
    state = SMCState(5)
    state["x"] = torch.zeros(5, 2)
    with pytest.raises(ValueError, match="does not have the particles in front"):
        state["y"] = torch.zeros(2)


@pytest.mark.parametrize("stable", [False, True])
def test_resampler_reweighs_the_guide(stable):
    def guide():
        ember.sample("z", dist.Normal(0.0, 2.0))

    def simulator():
        z = ember.sample("z", dist.Normal(0.0, 2.0))
        with ember.plate("data", 3):
            ember.sample("x", dist.Normal(z.unsqueeze(-1) if z.ndim == 1 else z, 0.1))

    def target():
        ember.sample("z", dist.Normal(1.0, 0.5))

    resampler = Resampler(guide, simulator, 8000, max_plate_nesting=1)
    draws = resampler.sample(target, 300, stable=stable)
    assert draws["z"].shape[0] == 300 and draws["x"].shape == (300, 3)
    assert draws["z"].mean().item() == pytest.approx(1.0, abs=0.15)
    assert draws["z"].std().item() == pytest.approx(0.5, abs=0.1)
    again = resampler.sample(target, 300, stable=stable)
    assert torch.equal(draws["x"], again["x"]) == stable
