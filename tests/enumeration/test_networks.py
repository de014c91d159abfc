"""Compare evidence, gradients, marginals and posterior draws of discrete networks with explicit sums."""

from collections import Counter

import pytest
import torch
from scipy.stats import chi2

import ember
from ember import poutine
from ember.infer import TraceEnum_ELBO, config_enumerate, infer_discrete
from enumeration.brute_force import joint_table, key_of, latent_sites
from enumeration.networks import NETWORKS

EACH = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)


def empty_guide():
    pass


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@EACH
def test_stacked_elimination(network, stacked):
    model = config_enumerate(network)
    loss = TraceEnum_ELBO().differentiable_loss(model, empty_guide)
    values, table = joint_table(network)
    torch.testing.assert_close(loss, -table.logsumexp(0))
    leaves = list(dict(ember.get_param_store().named_parameters()).values())
    if leaves:
        expected = torch.autograd.grad(-table.logsumexp(0), leaves)
        torch.testing.assert_close(torch.autograd.grad(loss, leaves), expected)
    inferred = infer_discrete(model, first_available_dim=-4, temperature=0)
    nodes = poutine.trace(inferred).get_trace().nodes
    best = values[int(table.argmax())]
    assert {name: nodes[name]["value"].tolist() for name in best} == {
        name: value.tolist() for name, value in best.items()
    }


@pytest.mark.parametrize("expand", [False, True])
@EACH
def test_evidence_and_gradients(network, expand):
    loss = TraceEnum_ELBO().differentiable_loss(config_enumerate(network, expand=expand), empty_guide)
    _, table = joint_table(network)
    expected = -table.logsumexp(0)
    torch.testing.assert_close(loss, expected)
    leaves = list(dict(ember.get_param_store().named_parameters()).values())
    if leaves:
        actual = torch.autograd.grad(loss, leaves)
        torch.testing.assert_close(actual, torch.autograd.grad(expected, leaves))


@EACH
def test_loss_and_grads_agrees(network):
    elbo, model = TraceEnum_ELBO(), config_enumerate(network)
    loss = elbo.differentiable_loss(model, empty_guide)
    leaves = list(dict(ember.get_param_store().named_parameters()).values())
    expected = torch.autograd.grad(loss, leaves) if leaves else ()
    assert elbo.loss(model, empty_guide) == pytest.approx(loss.item())
    assert elbo.loss_and_grads(model, empty_guide) == pytest.approx(loss.item())
    torch.testing.assert_close(tuple(leaf.grad for leaf in leaves), expected)


@EACH
def test_marginals(network):
    marginals = TraceEnum_ELBO().compute_marginals(config_enumerate(network), empty_guide)
    values, table = joint_table(network)
    weights = table.detach().softmax(0)
    sites = latent_sites(network)
    assert list(marginals) == list(sites)
    for name, site in sites.items():
        support = site["fn"].enumerate_support(expand=False).reshape(-1)
        stacked = torch.stack([each[name] for each in values])
        expected = torch.stack([((stacked == v).movedim(0, -1) * weights).sum(-1) for v in support], -1)
        if isinstance(marginals[name], ember.distributions.Bernoulli):
            torch.testing.assert_close(marginals[name].probs.double(), expected[..., 1], rtol=1e-5, atol=1e-6)
        else:
            torch.testing.assert_close(marginals[name].probs, expected)


def draws_of(inferred, number, names):
    found = Counter()
    for _ in range(number):
        nodes = poutine.trace(inferred).get_trace().nodes
        found[key_of({name: nodes[name]["value"] for name in names})] += 1
    return found


@EACH
def test_posterior_draws(network):
    number = 400
    values, table = joint_table(network)
    keys = [key_of(each) for each in values]
    inferred = infer_discrete(config_enumerate(network), first_available_dim=-4)
    found = draws_of(inferred, number, list(values[0]))
    assert set(found) <= set(keys)
    expected = dict(zip(keys, (number * table.detach().softmax(0)).tolist(), strict=True))
    # Rare assignments are counted together, so that every cell expects at least five.
    common = [key for key in keys if expected[key] >= 5]
    cells = [(found[key], expected[key]) for key in common]
    rest = (number - sum(n for n, _ in cells), number - sum(e for _, e in cells))
    if rest[1] >= 5:
        cells.append(rest)
    statistic = sum((n - e) ** 2 / e for n, e in cells)
    assert statistic < chi2.ppf(1 - 1e-4, max(len(cells) - 1, 1))


@EACH
def test_most_probable_values(network):
    values, table = joint_table(network)
    inferred = infer_discrete(config_enumerate(network), first_available_dim=-4, temperature=0)
    nodes = poutine.trace(inferred).get_trace().nodes
    best = values[int(table.argmax())]
    assert {name: nodes[name]["value"].tolist() for name in best} == {
        name: value.tolist() for name, value in best.items()
    }


def test_long_chain_against_the_forward_algorithm():
    steps, states = 150, 3
    generator = torch.Generator().manual_seed(5)
    transition = torch.rand(states, states, generator=generator).softmax(-1)
    data = torch.randn(steps, generator=generator)

    def model():
        x = torch.tensor(0)
        for t in ember.markov(range(steps)):
            x = ember.sample(
                f"x{t}", ember.distributions.Categorical(transition[x]), infer={"enumerate": "parallel"}
            )
            ember.sample(f"y{t}", ember.distributions.Normal(x.to(data.dtype), 1.0), obs=data[t])

    emission = ember.distributions.Normal(torch.arange(3.0), 1.0).log_prob(data[:, None])
    alpha = transition[0].log() + emission[0]
    for t in range(1, steps):
        alpha = (alpha[:, None] + transition.log()).logsumexp(0) + emission[t]
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(model, empty_guide)
    assert loss == pytest.approx(-alpha.logsumexp(0).item())


def test_marginals_of_a_model_without_enumerated_sites():
    def model():
        ember.sample("x", ember.distributions.Normal(0.0, 1.0))

    assert TraceEnum_ELBO(strict_enumeration_warning=False).compute_marginals(model, model) == {}


def test_sample_posterior_runs_the_model_with_drawn_values():
    def model():
        z = ember.sample("z", ember.distributions.Categorical(torch.tensor([0.25, 0.75])))
        ember.sample("x", ember.distributions.Normal(z.double(), 1.0), obs=torch.tensor(1.0))
        return z

    elbo = TraceEnum_ELBO()
    draws = torch.stack([elbo.sample_posterior(config_enumerate(model), empty_guide) for _ in range(500)])
    joint = torch.tensor([0.25, 0.75]).log() + ember.distributions.Normal(
        torch.tensor([0.0, 1.0]), 1.0
    ).log_prob(torch.tensor(1.0))
    expected = joint.softmax(0)[1].item()
    assert abs(draws.double().mean().item() - expected) < 4 * (expected * (1 - expected) / 500) ** 0.5
