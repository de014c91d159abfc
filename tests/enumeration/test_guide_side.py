"""Check enumeration in guides: in parallel, sequential, mixed with sampled sites and with the model's own."""

import math

import pytest
import torch

import ember
from ember import distributions as dist
from ember.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from ember.ops.indexing import Vindex

Q0, Q1 = torch.tensor([0.3, 0.7]), torch.tensor([[0.6, 0.4], [0.2, 0.8]])
P0, P1 = torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.3, 0.7]])
LOC = torch.tensor([[-1.0, 0.5], [2.0, 3.0]])


def normal(loc, x):
    return -0.5 * (x - loc) ** 2 - 0.5 * math.log(2 * math.pi)


def chain_model(a_mode=None, b_mode=None):
    a = ember.sample("a", dist.Categorical(P0), infer={"enumerate": a_mode} if a_mode else None)
    b = ember.sample("b", dist.Categorical(P1[a]), infer={"enumerate": b_mode} if b_mode else None)
    ember.sample("x", dist.Normal(Vindex(LOC)[a, b], 1.0), obs=torch.tensor(0.7))


def chain_guide(logits, modes):
    def guide():
        a = ember.sample("a", dist.Categorical(logits=logits[0]), infer={"enumerate": modes[0]})
        if modes[1] is not None:
            ember.sample("b", dist.Categorical(logits=logits[1:][a]), infer={"enumerate": modes[1]})

    return guide


def exact_chain_bound(logits):
    q0, q1 = logits[0].log_softmax(-1), logits[1:].log_softmax(-1)
    total = torch.zeros(())
    for a in range(2):
        for b in range(2):
            log_q = q0[a] + q1[a, b]
            log_p = P0[a].log() + P1[a, b].log() + normal(LOC[a, b], torch.tensor(0.7))
            total = total + log_q.exp() * (log_p - log_q)
    return total


@pytest.mark.parametrize(
    "modes",
    [
        ("parallel", "parallel"),
        ("sequential", "sequential"),
        ("parallel", "sequential"),
        ("sequential", "parallel"),
    ],
)
def test_chain_in_the_guide(modes):
    logits = torch.cat([Q0[None], Q1]).log().requires_grad_()
    loss = TraceEnum_ELBO(max_plate_nesting=0).differentiable_loss(chain_model, chain_guide(logits, modes))
    expected = -exact_chain_bound(logits)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits))


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
def test_model_enumerates_below_what_the_guide_enumerates(mode):
    logits = torch.cat([Q0[None], Q1]).log().requires_grad_()
    guide = chain_guide(logits, (mode, None))
    loss = TraceEnum_ELBO(max_plate_nesting=0).differentiable_loss(
        lambda: chain_model(None, "parallel"), guide
    )
    q = logits[0].softmax(-1)
    evidence = (P1.log() + normal(LOC, torch.tensor(0.7))).logsumexp(-1)
    expected = -(q * (P0.log() + evidence - q.log())).sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits))


def plated(data, scale_of):
    def model():
        weights = torch.tensor([0.4, 0.6])
        with scale_of():
            z = ember.sample("z", dist.Categorical(weights))
            ember.sample("x", dist.Normal(2.0 * z, 1.0), obs=data)

    return model


@pytest.mark.parametrize("particles, vectorized", [(1, False), (3, False), (3, True)])
def test_plated_guide_site(particles, vectorized):
    data = torch.tensor([0.1, 1.2, 2.5])
    logits = torch.tensor([[0.2, 0.0], [-1.0, 1.0], [0.5, 0.4]], requires_grad=True)
    model = plated(data, lambda: ember.plate("data", 3))

    @config_enumerate
    def guide():
        with ember.plate("data", 3):
            ember.sample("z", dist.Categorical(logits=logits))

    elbo = TraceEnum_ELBO(num_particles=particles, vectorize_particles=vectorized)
    loss = elbo.differentiable_loss(model, guide)
    log_q = logits.log_softmax(-1)
    log_p = torch.tensor([0.4, 0.6]).log() + normal(torch.tensor([0.0, 2.0]), data[:, None])
    expected = -(log_q.exp() * (log_p - log_q)).sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits))


def test_minibatches_scale_local_sums():
    data = torch.tensor([0.1, 1.2, 2.5, -0.5])
    indices = torch.tensor([1, 3])
    model = plated(data[indices], lambda: ember.plate("data", 4, subsample=indices))
    loss = TraceEnum_ELBO().loss(config_enumerate(model), lambda: None)
    terms = torch.tensor([0.4, 0.6]).log() + normal(torch.tensor([0.0, 2.0]), data[indices, None])
    assert loss == pytest.approx(-2.0 * terms.logsumexp(-1).sum().item(), rel=1e-6)


def test_minibatches_inside_a_global_sum_count_as_powers():
    data = torch.tensor([0.1, 1.2, 2.5, -0.5])
    indices = torch.tensor([1, 3])

    @config_enumerate
    def model():
        z = ember.sample("z", dist.Categorical(torch.tensor([0.4, 0.6])))
        with ember.plate("data", 4, subsample=indices):
            ember.sample("x", dist.Normal(2.0 * z, 1.0), obs=data[indices])

    log_p = torch.tensor([0.4, 0.6]).log() + 2.0 * normal(torch.tensor([0.0, 2.0]), data[indices, None]).sum(
        0
    )
    assert TraceEnum_ELBO().loss(model, lambda: None) == pytest.approx(-log_p.logsumexp(-1).item(), rel=1e-6)


def test_sampled_continuous_site_gives_the_pathwise_gradient_of_the_hand_marginalised_model():
    data = torch.tensor([-1.0, 0.3, 2.2])
    loc = torch.tensor(0.4, requires_grad=True)

    def guide(*_):
        ember.sample("mu", dist.Normal(loc, 0.5))

    def model(by_hand):
        mu = ember.sample("mu", dist.Normal(0.0, 3.0))
        with ember.plate("data", 3):
            if by_hand:
                mixture = dist.MixtureSameFamily(
                    dist.Categorical(torch.tensor([0.4, 0.6])),
                    dist.Normal(torch.stack([mu, mu + 2.0]), 1.0),
                )
                ember.sample("x", mixture, obs=data)
            else:
                z = ember.sample("z", dist.Bernoulli(0.6), infer={"enumerate": "parallel"})
                ember.sample("x", dist.Normal(mu + 2.0 * z, 1.0), obs=data)

    found = []
    for elbo, by_hand in ((TraceEnum_ELBO(), False), (Trace_ELBO(), True)):
        torch.manual_seed(3)
        if by_hand:  # the nesting is found by a run that draws
            loss = elbo.differentiable_loss(model, guide, by_hand)
        else:
            elbo.max_plate_nesting = 1
            loss = elbo.differentiable_loss(model, guide, by_hand)
        found.append((loss, *torch.autograd.grad(loss, loc)))
    torch.testing.assert_close(*found)


def test_score_function_of_a_sampled_discrete_site_has_the_right_mean():
    logits = torch.cat([Q0[None], Q1]).log().requires_grad_()

    def guide():
        with ember.plate("copies", 20_000):
            a = ember.sample("a", dist.Categorical(logits=logits[0]))
            ember.sample("b", dist.Categorical(logits=logits[1:][a]), infer={"enumerate": "parallel"})

    def model():
        with ember.plate("copies", 20_000):
            chain_model()

    loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, guide) / 20_000
    expected = -exact_chain_bound(logits)
    torch.testing.assert_close(loss, expected, rtol=0.03, atol=0)
    (actual,) = torch.autograd.grad(loss, logits)
    (exact,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(actual, exact, rtol=0, atol=0.02)


def test_svi_learns_a_mixture():
    data = torch.cat([torch.randn(40) - 3, torch.randn(60) + 3])

    @config_enumerate
    def model(data):
        weights = ember.param("weights", torch.ones(2) / 2, constraint=dist.constraints.simplex)
        loc = ember.param("loc", torch.tensor([-1.0, 1.0]))
        with ember.plate("data", len(data)):
            z = ember.sample("z", dist.Categorical(weights))
            ember.sample("x", dist.Normal(loc[z], 1.0), obs=data)

    svi = SVI(model, lambda data: None, ember.optim.Adam({"lr": 0.1}), TraceEnum_ELBO(max_plate_nesting=1))
    losses = [svi.step(data) for _ in range(150)]
    assert losses[-1] < losses[0]
    assert ember.param("weights")[1].item() == pytest.approx(0.6, abs=0.02)
    torch.testing.assert_close(
        ember.param("loc").detach(), torch.tensor([data[:40].mean(), data[40:].mean()]), atol=0.1, rtol=0
    )
