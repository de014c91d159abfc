"""Check that NUTS and HMC sample models whose discrete sites are summed out, on the engine and eagerly."""

import pytest
import torch

import ember
from ember import distributions as dist
from ember.engine.capture import capture
from ember.engine.interpret import interpret
from ember.engine.passes.simplify import simplify
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


def test_logarithms_of_weights_are_taken_once_for_a_plate():
    density = Density(mixture, (DATA,), seed=0)
    z = torch.zeros(density.size, dtype=torch.float64)
    program = simplify(capture(lambda z, *data: density.value_and_gradient(z, data), z, *density.inputs))
    logs = [node.outputs[0].shape for node in program.nodes if node.op == "aten.log.default"]
    assert (20,) in logs and max(len(shape) for shape in logs) <= 2
    assert sum(shape.count(20) for shape in logs) == 1  # of the sum over the components


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
    data = torch.tensor([0.1, -0.4, 3.1, 2.8, 0.2])
    kernel = HMC(hmm, num_steps=5, step_size=0.2)
    mcmc = MCMC(kernel, num_samples=300, warmup_steps=200, disable_progbar=True, execution="native")
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


def model_of_draws(data):
    p = ember.sample("p", dist.Beta(2.0, 2.0))
    with ember.plate("data", len(data)):
        z = ember.sample("z", dist.Bernoulli(p))
        ember.deterministic("double", 2 * z, event_dim=0)
        ember.sample("x", dist.Normal(2.0 * z, 1.0), obs=data)
    ember.deterministic("odds", p / (1 - p))


@pytest.mark.parametrize("reads", [False, True])
def test_discrete_sites_are_drawn_for_many_draws(reads):
    data = torch.tensor([0.0, 1.0, 2.0])

    def model(data):
        if reads:  # which cannot be vectorised over draws
            ember.sample("q", dist.Normal(0.0, 1.0)).detach().item()
        return model_of_draws(data)

    density = Density(model, (data,), seed=0)
    z = torch.linspace(-2, 2, 60 if reads else 2000, dtype=torch.float64)
    z = torch.stack([z] * density.size, -1).reshape(2, -1, density.size)
    drawn = density.discrete(z)
    p = density.constrain(z)["p"]
    assert drawn["z"].shape == (*p.shape, 3)
    expected = ((p / (1 - p)).log()[..., None] + 2 * data - 2).sigmoid()
    error = (drawn["z"] - expected).mean((0, 1)) / (
        (expected * (1 - expected)).sum((0, 1)).sqrt() / p.numel()
    )
    assert error.abs().max() < 4
    found = density.deterministics(z, discrete=drawn)
    torch.testing.assert_close(found["double"], 2 * drawn["z"])
    torch.testing.assert_close(found["odds"], p / (1 - p))


def test_summed_sites_come_with_the_posterior(capsys):
    mcmc = MCMC(NUTS(model_of_draws), num_samples=50, warmup_steps=50, num_chains=2, disable_progbar=True)
    mcmc.run(torch.tensor([0.0, 1.0, 2.0]))
    assert set(mcmc.get_samples()) == {"p"}
    samples = mcmc.get_samples(discrete=True)
    assert samples["z"].shape == (100, 3)
    posterior = mcmc.to_arviz().posterior
    assert posterior["double"].shape == (2, 50, 3)
    assert (posterior["double"] == 2 * posterior["z"]).all()
    assert torch.equal(samples["z"].reshape(2, 50, 3), torch.as_tensor(posterior["z"].values))
    assert torch.equal(mcmc.get_samples(discrete=True)["z"], samples["z"])
    predicted = Predictive(model_of_draws, samples, return_sites=["double"])(torch.zeros(3))["double"]
    torch.testing.assert_close(predicted, 2 * samples["z"])
    mcmc.summary()
    assert "Summed out: 'z' (Bernoulli, 2 values in plates data [3]): 3 variables" in capsys.readouterr().out


def test_draws_of_a_long_chain_for_many_draws():
    data = torch.randn(40, generator=torch.Generator().manual_seed(0))
    density = Density(hmm, (data,), seed=0)
    z = torch.zeros(1000, density.size, dtype=torch.float64)
    drawn = torch.stack([density.discrete(z)[f"x{t}"] for t in range(40)], -1).double()
    values = density.constrain(z[0])
    transition, loc = values["transition"], torch.stack([torch.tensor(0.0), values["gap"]])
    emission = dist.Normal(loc, 1.0).log_prob(data[:, None]).requires_grad_()
    alpha = transition[0].log() + emission[0]
    for row in emission[1:]:
        alpha = (alpha[:, None] + transition.log()).logsumexp(0) + row
    (expected,) = torch.autograd.grad(alpha.logsumexp(0), emission)
    expected = expected[:, 1].double()
    assert ((drawn.mean(0) - expected) / (expected * (1 - expected) / 1000).sqrt()).abs().max() < 4.5


def test_summation_can_be_switched_off():
    mcmc = MCMC(NUTS(model_of_draws, sum_discrete=False), num_samples=10, disable_progbar=True)
    with pytest.raises(ValueError, match=r"discrete latent sites cannot be sampled(?s:.*)sum_discrete=True"):
        mcmc.run(torch.zeros(3))


def test_report_of_a_chain():
    report = Density(hmm, (torch.zeros(100),), seed=0).sums
    assert report.number == 100 and report.steps < 60
    assert report.text.startswith("summed out: 'x0' and 99 like it (Categorical, 2 values)")
    explained = ember.engine.explain(hmm, torch.zeros(20))
    assert "summed out: 'x0' and 19 like it" in str(explained)


def test_infinite_support_is_refused_and_names_the_site():
    def model():
        rate = ember.sample("rate", dist.Gamma(1.0, 1.0))
        ember.sample("k", dist.Poisson(rate))

    with pytest.raises(
        ValueError, match="discrete latent sites cannot be sampled by gradients: 'k' ~ Poisson"
    ):
        Density(model, seed=0)
