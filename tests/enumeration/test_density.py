"""Check that NUTS and HMC sample models whose discrete sites are summed out, on the engine and eagerly."""

import pytest
import torch

import ember
from ember import distributions as dist
from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.infer import HMC, MCMC, NUTS, Predictive, config_enumerate, infer_discrete
from ember.model.density import Density

DATA = torch.cat([torch.linspace(-4.0, -2.0, 8), torch.linspace(1.5, 4.0, 12)])


def mixture(data, by_hand=False):
    weights = ember.sample("weights", dist.Dirichlet(torch.ones(2)))
    with ember.plate("components", 2):
        loc = ember.sample("loc", dist.Normal(torch.tensor([-3.0, 3.0]), 1.0))
    scale = ember.sample("scale", dist.LogNormal(0.0, 0.5))
    with ember.plate("data", len(data)):
        if by_hand:
            family = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(loc, scale))
            ember.sample("x", family, obs=data)
        else:
            z = ember.sample("z", dist.Categorical(weights))
            ember.sample("x", dist.Normal(loc[z], scale), obs=data)


def hmm(data, by_hand=False):
    with ember.plate("states", 2):
        transition = ember.sample("transition", dist.Dirichlet(torch.tensor([2.0, 1.0])))
    gap = ember.sample("gap", dist.LogNormal(0.0, 1.0))
    loc = torch.stack([torch.zeros_like(gap), gap])
    if by_hand:
        emission = dist.Normal(loc, 1.0).log_prob(data[:, None])
        alpha = transition[0].log() + emission[0]
        for t in range(1, len(data)):
            alpha = (alpha[:, None] + transition.log()).logsumexp(0) + emission[t]
        ember.factor("evidence", alpha.logsumexp(0))
        return
    x = 0
    for t in ember.markov(range(len(data))):
        x = ember.sample(f"x{t}", dist.Categorical(transition[x]))
        ember.sample(f"y{t}", dist.Normal(loc[x], 1.0), obs=data[t])


def partly_observed(data, by_hand=False):
    p = ember.sample("p", dist.Beta(2.0, 2.0))
    mask = torch.tensor([True, False, True, True])
    label = torch.tensor([1.0, 0.0, 0.0, 1.0])
    values = torch.tensor([0.9, 0.2, 0.1, 1.5])
    with ember.plate("data", 4):
        if by_hand:
            likelihood = dist.Normal(torch.tensor([0.0, 1.0]), 1.0).log_prob(values[:, None])
            prior = torch.stack([(1 - p).log(), p.log()])
            known = torch.where(label == 1, prior[1] + likelihood[:, 1], prior[0] + likelihood[:, 0])
            ember.factor("f", torch.where(mask, known, (prior + likelihood).logsumexp(-1)))
        else:
            z = ember.sample("z", dist.Bernoulli(p), obs=label, obs_mask=mask)
            ember.sample("x", dist.Normal(z, 1.0), obs=values)


MODELS = pytest.mark.parametrize("model", [mixture, hmm, partly_observed], ids=lambda model: model.__name__)


@MODELS
@pytest.mark.parametrize("annotated", [False, True])
def test_density_is_that_of_the_hand_marginalised_model(model, annotated):
    data = DATA[5:11]
    density = Density(config_enumerate(model) if annotated else model, (data,), seed=0)
    expected = Density(model, (data, True), seed=0)
    assert list(density.layout.blocks) == list(expected.layout.blocks)
    for z in torch.randn(5, density.size, dtype=torch.float64):
        torch.testing.assert_close(density(z), expected(z))


@MODELS
def test_density_is_captured(model):
    density = Density(model, (DATA[5:11],), seed=0)
    examples = torch.randn(3, density.size, dtype=torch.float64)
    program = capture(lambda z, *inputs: density.value_and_gradient(z, inputs), examples[0], *density.inputs)
    for z in examples:
        value, gradient = interpret(program, z, *density.inputs)
        torch.testing.assert_close((value, gradient), density(z))


@pytest.mark.parametrize("execution", ["native", "eager"])
def test_nuts_on_a_mixture(execution):
    ember.settings.set(execution=execution)
    draws = 400 if execution == "native" else 40
    mcmc = MCMC(NUTS(mixture), num_samples=draws, warmup_steps=draws, disable_progbar=True)
    mcmc.run(DATA)
    samples = mcmc.get_samples()
    assert set(samples) == {"weights", "loc", "scale"}
    expected = torch.stack([DATA[:8].mean(), DATA[8:].mean()])
    torch.testing.assert_close(samples["loc"].mean(0), expected, atol=0.35, rtol=0)


def test_hmc_on_an_hmm_and_states_drawn_back():
    ember.settings.set(execution="native")
    data = torch.tensor([0.1, -0.4, 3.1, 2.8, 0.2])
    mcmc = MCMC(HMC(hmm, num_steps=5, step_size=0.2), num_samples=300, warmup_steps=200, disable_progbar=True)
    mcmc.run(data)
    samples = mcmc.get_samples()
    predict = Predictive(infer_discrete(config_enumerate(hmm), first_available_dim=-2), samples)
    states = predict(data)
    assert [states[f"x{t}"].shape for t in range(5)] == [(300, 1)] * 5  # filled up to the plates' dims
    # The forward filter and backward sums, by force, averaged over the draws.
    loc = torch.stack([torch.zeros_like(samples["gap"]), samples["gap"]], -1)
    emission = dist.Normal(loc[:, None], 1.0).log_prob(data[:, None])
    log_joint, paths = [], torch.cartesian_prod(*[torch.arange(2)] * 5)
    for path in paths:
        before, total = 0, torch.zeros(300)
        for t, x in enumerate(path.tolist()):
            total = total + samples["transition"][:, before, x].log() + emission[:, t, x]
            before = x
        log_joint.append(total)
    posterior = torch.stack(log_joint).softmax(0).mean(-1)
    expected = (paths.double() * posterior[:, None].double()).sum(0).float()
    actual = torch.stack([states[f"x{t}"].float().mean() for t in range(5)])
    torch.testing.assert_close(actual, expected, atol=4 * 0.5 / 300**0.5, rtol=0)


def test_draws_for_many_posterior_draws_at_once():
    def model():
        p = ember.sample("p", dist.Beta(1.0, 1.0))
        with ember.plate("data", 3):
            z = ember.sample("z", dist.Bernoulli(p))
            ember.sample("x", dist.Normal(2.0 * z, 1.0), obs=torch.tensor([0.0, 1.0, 2.0]))

    p = torch.linspace(0.1, 0.9, 2000)
    inferred = infer_discrete(config_enumerate(model), first_available_dim=-3)
    z = Predictive(inferred, {"p": p}, parallel=True)()["z"]
    assert z.shape == (2000, 3)
    odds = (p / (1 - p)).log()[:, None] + 2 * torch.tensor([0.0, 1.0, 2.0]) - 2
    torch.testing.assert_close(z.mean(0), odds.sigmoid().mean(0), atol=4 * 0.5 / 2000**0.5, rtol=0)


def test_deterministics_of_discrete_sites_are_left_out():
    def model():
        p = ember.sample("p", dist.Beta(1.0, 1.0))
        z = ember.sample("z", dist.Bernoulli(p))
        ember.deterministic("odds", p / (1 - p))
        ember.deterministic("double", 2 * z)

    z = torch.randn(3, 1, dtype=torch.float64)
    found = Density(model, seed=0).deterministics(z)
    torch.testing.assert_close(found, {"odds": z.squeeze(-1).exp().float()})


def test_infinite_support_is_refused_and_names_the_site():
    def model():
        rate = ember.sample("rate", dist.Gamma(1.0, 1.0))
        ember.sample("k", dist.Poisson(rate))

    with pytest.raises(
        ValueError, match="discrete latent sites cannot be sampled by gradients: 'k' ~ Poisson"
    ):
        Density(model, seed=0)
