"""Check several draws of a guide's site: means of loss and gradients over all draws are the exact ones."""

import itertools

import pytest
import torch

import ember
from ember import distributions as dist
from ember.infer import TraceEnum_ELBO, config_enumerate
from enumeration.test_guide_side import LOC, P0, P1, Q0, Q1, chain_model, exact_chain_bound, normal

DRAWS, EXACT, ONE = {"enumerate": "parallel", "num_samples": 2}, {"enumerate": "parallel"}, {}


class Given(dist.Categorical):
    """A Categorical that gives known draws."""

    def __init__(self, logits, draws):
        super().__init__(logits=logits)
        self.draws = draws

    def sample(self, sample_shape=()):
        return self.draws.reshape(self._extended_shape(sample_shape))

    def log_density(self):
        sizes = (len(self.draws) // self.batch_shape.numel(), *self.batch_shape)
        return self.log_prob(self.draws.reshape(sizes)).sum()


def all_draws(infer, count):
    if infer in (None, EXACT):
        return [None]
    return [torch.tensor(each) for each in itertools.product(range(2), repeat=count)]


def evidence_bound(logits):
    """Return the bound where the model sums "b" out."""
    log_q = logits[0].log_softmax(-1)
    evidence = (P1.log() + normal(LOC, torch.tensor(0.7))).logsumexp(-1)
    return (log_q.exp() * (P0.log() + evidence - log_q)).sum()


@pytest.mark.parametrize(
    "a_infer, b_infer",
    [(DRAWS, DRAWS), (DRAWS, EXACT), (DRAWS, ONE), (EXACT, DRAWS), (EXACT, ONE), (ONE, DRAWS), (DRAWS, None)],
)
def test_means_over_all_draws_are_exact(a_infer, b_infer):
    logits = torch.cat([Q0[None], Q1]).log().requires_grad_()
    objective = TraceEnum_ELBO(max_plate_nesting=0)
    a_count = 1 if a_infer is ONE else 2
    b_count = a_count * (2 if b_infer is DRAWS else 1)
    losses, gradients = [], []
    for a_draws, b_draws in itertools.product(all_draws(a_infer, a_count), all_draws(b_infer, b_count)):
        made = []

        def sample(name, logits, draws, infer, made=made):
            fn = dist.Categorical(logits=logits) if draws is None else Given(logits, draws)
            made += [] if draws is None else [fn]
            return ember.sample(name, fn, infer=dict(infer))

        def guide(a_draws=a_draws, b_draws=b_draws, sample=sample):
            a = sample("a", logits[0], a_draws, a_infer)
            if b_infer is not None:
                sample("b", logits[1:][a], b_draws, b_infer)

        def model():
            chain_model(None, "parallel" if b_infer is None else None)

        (gradient,) = torch.autograd.grad(objective.differentiable_loss(model, guide), logits)
        q = sum(fn.log_density() for fn in made).detach().exp()
        made.clear()
        losses.append(q * objective.loss(model, guide))
        gradients.append(q * gradient)
    expected = -(evidence_bound if b_infer is None else exact_chain_bound)(logits)
    torch.testing.assert_close(sum(losses), expected.detach())
    torch.testing.assert_close(sum(gradients), *torch.autograd.grad(expected, logits), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("particles", [1, 2])
def test_draws_in_a_plate_below_reparameterised_draws(particles):
    torch.manual_seed(0)
    loc, slope = torch.tensor(0.3, requires_grad=True), torch.tensor(0.8, requires_grad=True)
    data = torch.linspace(-1, 2, 5)

    def model():
        mu = ember.sample("mu", dist.Normal(0.0, 1.0))
        with ember.plate("data", len(data)):
            z = ember.sample("z", dist.Bernoulli(logits=mu))
            ember.sample("x", dist.Normal(3.0 * z, 1.0), obs=data)

    def guide():
        mu = ember.sample("mu", dist.Normal(loc, 0.5), infer={**DRAWS, "num_samples": 10_000})
        with ember.plate("data", len(data)):
            ember.sample("z", dist.Bernoulli(logits=slope * mu), infer={**DRAWS, "num_samples": 3})

    mu = loc + 0.5 * torch.linspace(-6, 6, 401)[:, None]
    q_mu, weights = dist.Normal(loc, 0.5), torch.softmax(-0.5 * torch.linspace(-6, 6, 401) ** 2, 0)
    expected = (weights * (q_mu.log_prob(mu) - dist.Normal(0.0, 1.0).log_prob(mu))[:, 0]).sum()
    for z in (torch.tensor(0.0), torch.tensor(1.0)):
        log_q = dist.Bernoulli(logits=slope * mu).log_prob(z)
        log_p = dist.Bernoulli(logits=mu).log_prob(z) + normal(3.0 * z, data)
        expected = expected + (weights[:, None] * log_q.exp() * (log_q - log_p)).sum()
    objective = TraceEnum_ELBO(particles, max_plate_nesting=1, vectorize_particles=particles > 1)
    loss = objective.differentiable_loss(model, guide)
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0)
    actual, exact = (torch.stack(torch.autograd.grad(each, [loc, slope])) for each in (loss, expected))
    torch.testing.assert_close(actual, exact, rtol=0, atol=0.1)


def test_continuous_sites_have_draws_by_config_enumerate():
    loc = torch.tensor(0.3, requires_grad=True)

    def model():
        w = ember.sample("w", dist.Normal(0.0, 1.0))
        ember.sample("v", dist.Normal(w, 1.0))

    def guide():
        w = ember.sample("w", dist.Normal(loc, 1.0))
        ember.sample("v", dist.Normal(w, 1.0))

    torch.manual_seed(0)
    objective = TraceEnum_ELBO(max_plate_nesting=0)
    loss = objective.differentiable_loss(model, config_enumerate(guide, num_samples=100))
    torch.testing.assert_close(loss, torch.tensor(0.045), rtol=0, atol=0.2)
    torch.testing.assert_close(torch.autograd.grad(loss, loc)[0], torch.tensor(0.3), rtol=0, atol=0.4)
