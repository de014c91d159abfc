"""Check that conjugate latents are summed out and drawn again."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.contrib.conjugate.infer import (
    BetaBinomialPair,
    GammaPoissonPair,
    collapse_conjugate,
    posterior_replay,
    uncollapse_conjugate,
)
from ember.infer import MCMC, NUTS

HITS, TRIALS = torch.tensor([1.0, 4.0, 7.0]), torch.tensor([10.0, 12.0, 11.0])


def players(hits):
    a = ember.sample("a", dist.LogNormal(0.0, 1.0))
    b = ember.sample("b", dist.LogNormal(0.0, 1.0))
    pair = BetaBinomialPair()
    with ember.plate("players", 3):
        p = ember.sample("p", pair.latent(a, b))
        return ember.sample("hits", pair.conditional(total_count=TRIALS, probs=p), obs=hits)


def counts(seen):
    pair = GammaPoissonPair()
    with ember.plate("places", 3):
        rate = ember.sample("rate", pair.latent(torch.tensor(2.0), torch.tensor(0.5)))
        return ember.sample("count", pair.conditional(rate), obs=seen)


def test_what_is_left_has_the_compound_density():
    fixed = poutine.condition(players, {"a": torch.tensor(2.0), "b": torch.tensor(3.0)})
    trace = poutine.trace(collapse_conjugate(fixed)).get_trace(HITS)
    trace.compute_log_prob()
    assert "p" not in trace.nodes
    expected = dist.BetaBinomial(2.0, 3.0, TRIALS).log_prob(HITS)
    torch.testing.assert_close(trace.nodes["hits"]["log_prob"], expected)
    full = poutine.trace(uncollapse_conjugate(fixed, trace)).get_trace(HITS)
    posterior = full.nodes["p"]["fn"]
    torch.testing.assert_close(posterior.concentration1, 2.0 + HITS)
    torch.testing.assert_close(posterior.concentration0, 3.0 + TRIALS - HITS)

    trace = poutine.trace(collapse_conjugate(counts)).get_trace(HITS)
    expected = dist.GammaPoisson(2.0, 0.5).log_prob(HITS).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)
    full = poutine.trace(uncollapse_conjugate(counts, trace)).get_trace(HITS)
    torch.testing.assert_close(full.nodes["rate"]["fn"].concentration, 2.0 + HITS)
    torch.testing.assert_close(full.nodes["rate"]["fn"].rate, torch.full((3,), 1.5))


def test_draws_agree_with_those_of_the_whole_model():
    ember.set_rng_seed(0)

    def run(model):
        mcmc = MCMC(NUTS(model), num_samples=600, warmup_steps=300, disable_progbar=True)
        mcmc.run(HITS)
        return mcmc.get_samples()

    left = run(collapse_conjugate(players))
    assert set(left) == {"a", "b"}
    drawn = posterior_replay(players, left, HITS)
    whole = run(players)
    assert set(drawn) == set(whole) and drawn["p"].shape == (600, 3)
    torch.testing.assert_close(drawn["p"].mean(0), whole["p"].mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn["p"].std(0), whole["p"].std(0), atol=0.03, rtol=0)


def test_shared_latents_are_refused():
    def shared(hits):
        pair = BetaBinomialPair()
        p = ember.sample("p", pair.latent(torch.tensor(1.0), torch.tensor(1.0)))
        with ember.plate("trials", 3):
            ember.sample("hits", pair.conditional(total_count=TRIALS, probs=p), obs=hits)

    with pytest.raises(ValueError, match="one observation"):
        collapse_conjugate(shared)(HITS)
    with pytest.raises(ValueError, match="no trace"):
        uncollapse_conjugate(shared)
    with pytest.raises(ValueError, match="no latent yet"):
        BetaBinomialPair().compound()
