"""Check older and rarer tools: compiled inference, resampling, traces of predictions, guides by effects."""

import functools

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.guides.guide_messenger import GuideMessenger
from ember.infer import (
    CSIS,
    SVI,
    EmpiricalMarginal,
    Importance,
    MHResampler,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceEnumSample_ELBO,
    TracePredictive,
    WeighedPredictive,
)


def model(observations=None):
    x = (observations or {}).get("x")
    z = ember.sample("z", dist.Normal(0.0, 1.0))
    ember.sample("x", dist.Normal(z, 1.0), obs=x)


def test_compiled_inference_learns_the_posterior_of_any_data():
    def guide(observations=None):
        slope, offset = ember.param("slope", torch.tensor(0.0)), ember.param("offset", torch.tensor(0.3))
        ember.sample("z", dist.Normal(offset + slope * observations["x"], 0.5**0.5))

    csis = CSIS(model, guide, optim.Adam({"lr": 0.02}), num_inference_samples=300)
    data = {"x": torch.tensor(1.2)}
    before = csis.validation_loss(observations=data)
    for _ in range(250):
        csis.step(observations=data)
    assert csis.validation_loss(observations=data) < before
    assert ember.param("slope").item() == pytest.approx(0.5, abs=0.12)
    csis.run(observations=data)
    assert csis.get_ESS() > 250
    assert EmpiricalMarginal(csis, "z").mean.item() == pytest.approx(0.6, abs=0.2)


def test_compiled_inference_needs_data_by_name():
    with pytest.raises(ValueError, match="CSIS needs data by site name"):
        CSIS(model, model, optim.Adam({"lr": 0.02})).step()


def test_resampling_follows_the_posterior():
    def prior(observations=None):
        ember.sample("z", dist.Normal(0.0, 1.5))

    weighed = WeighedPredictive(model, guide=prior, num_samples=400)
    sampler = functools.partial(
        weighed.call,
        model_guide=poutine.condition(model, data={"x": torch.tensor(1.0)}),
    )
    resampler = MHResampler(sampler, slice(None), slice(2))
    for _ in range(6):
        result = resampler()
    assert result.samples["z"].mean().item() == pytest.approx(0.5, abs=0.15)
    assert result.samples["z"].var().item() == pytest.approx(0.5, abs=0.15)
    assert resampler.get_source_samples().samples["z"].shape == (6, 400)
    assert resampler.get_stored_samples().log_weights.shape == (2, 400)
    assert 0 < resampler.get_total_transition_count() < 5 * 400
    assert resampler.get_samples() is result


def test_resampling_keeps_nothing_by_default():
    with pytest.raises(ValueError, match="kept no source samples"):
        MHResampler(lambda: None).get_source_samples()


def test_predictions_from_traces():
    posterior = Importance(poutine.condition(model, data={"x": torch.tensor(1.0)}), num_samples=300).run()
    predictive = TracePredictive(model, posterior, num_samples=300).run()
    x = EmpiricalMarginal(predictive, "x")
    assert x.mean.item() == pytest.approx(0.5, abs=0.3)
    free = TracePredictive(model, posterior, num_samples=300, keep_sites=[]).run()
    assert EmpiricalMarginal(free, "z").variance.item() == pytest.approx(1.0, abs=0.3)


class MeanField(GuideMessenger):
    def get_posterior(self, name, prior):
        if name == "w":
            return prior.base_dist.loc * 0 + self.upstream_value("z")
        assert self.upstream_value("nowhere") is None
        return dist.Normal(ember.param(f"{name}_loc", torch.tensor(0.2)), 0.7)


def two_sites():
    z = ember.sample("z", dist.Normal(0.0, 1.0))
    with ember.plate("data", 2):
        w = ember.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        ember.sample("x", dist.Normal(z + w.sum(-1), 1.0), obs=torch.ones(2))


def test_a_guide_by_effects_and_its_traces():
    guide = MeanField(two_sites)
    with pytest.raises(ValueError, match="has not run yet"):
        guide.get_traces()
    with poutine.trace() as recorder:
        draws = guide()
    assert set(draws) == {"z", "w", "x"} and (draws["w"] == draws["z"]).all()
    assert "x" not in recorder.trace.nodes
    model_trace, guide_trace = guide.get_traces()
    assert "x" in model_trace and "x" not in guide_trace
    scored = poutine.trace(poutine.replay(two_sites, trace=guide_trace)).get_trace()
    assert model_trace.log_prob_sum().item() == pytest.approx(scored.log_prob_sum().item())
    assert guide_trace.nodes["z"]["fn"].scale == torch.tensor(0.7)
    SVI(two_sites, guide, optim.Adam({"lr": 0.01}), Trace_ELBO()).step()


def mixture(data):
    loc = ember.sample("loc", dist.Normal(0.0, 1.0))
    with ember.plate("data", len(data)):
        z = ember.sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        ember.sample("x", dist.Normal(loc + 4.0 * z, 0.5), obs=data)
    return z


def mixture_guide(data):
    ember.sample("loc", dist.Delta(ember.param("loc_at", torch.tensor(0.0))))


def test_discrete_draws_of_the_last_step():
    elbo = TraceEnumSample_ELBO()
    with pytest.raises(ValueError, match="no step to draw from"):
        elbo.sample_saved()
    data = torch.tensor([-0.1, 4.2, 3.9, 0.3, 2.0])
    SVI(mixture, mixture_guide, optim.Adam({"lr": 0.0}), elbo).step(data)
    draws = torch.stack([elbo.sample_saved() for _ in range(300)])
    assert (draws[:, :4] == torch.tensor([0.0, 1.0, 1.0, 0.0])).all()
    exact = TraceEnum_ELBO().compute_marginals(mixture, mixture_guide, data)["z"].probs[4]
    assert draws[:, 4].mean().item() == pytest.approx(exact.item(), abs=0.12)


def test_collapse_names_what_to_use():
    with pytest.raises(NotImplementedError, match="collapse is not offered"):
        poutine.collapse(model)
    assert ember.barrier(3) == 3
