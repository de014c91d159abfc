"""Check that compiled runs whose guides draw by rejection reach the exact posteriors of conjugate models."""

from __future__ import annotations

import pytest
import torch

import ember
import ember.distributions as dist
from ember.infer import SVI, Trace_ELBO
from ember.optim import ClippedAdam

COUNTS = torch.tensor([3.0, 5.0, 2.0, 4.0, 6.0, 1.0, 3.0, 4.0, 2.0, 5.0])
COINS = torch.tensor([1.0] * 14 + [0.0] * 6)
KINDS = torch.tensor([0] * 12 + [1] * 5 + [2] * 3)


def positive(name, *start):
    return ember.param(name, torch.tensor(start).squeeze(), constraint=dist.constraints.positive)


def gamma_poisson():
    rate = ember.sample("latent", dist.Gamma(2.0, 1.0))
    with ember.plate("data", len(COUNTS)):
        ember.sample("y", dist.Poisson(rate), obs=COUNTS)


def gamma():
    ember.sample("latent", dist.Gamma(positive("a", 5.0), positive("b", 2.0)))


def beta_bernoulli():
    prob = ember.sample("latent", dist.Beta(2.0, 2.0))
    with ember.plate("data", len(COINS)):
        ember.sample("y", dist.Bernoulli(prob), obs=COINS)


def beta():
    ember.sample("latent", dist.Beta(positive("a", 3.0), positive("b", 3.0)))


def dirichlet_categorical():
    probs = ember.sample("latent", dist.Dirichlet(torch.ones(3)))
    with ember.plate("data", len(KINDS)):
        ember.sample("y", dist.Categorical(probs), obs=KINDS)


def dirichlet():
    ember.sample("latent", dist.Dirichlet(positive("a", 4.0, 4.0, 4.0)))


@pytest.mark.parametrize(
    ("model", "guide", "expected"),
    [
        (gamma_poisson, gamma, {"a": 2.0 + float(COUNTS.sum()), "b": 11.0}),
        (beta_bernoulli, beta, {"a": 16.0, "b": 8.0}),
        (dirichlet_categorical, dirichlet, {"a": [13.0, 6.0, 4.0]}),
    ],
)
def test_conjugate_posteriors(model, guide, expected):
    optim = ClippedAdam({"lr": 0.02, "lrd": 0.9998})
    svi = SVI(model, guide, optim, Trace_ELBO(num_particles=4), execution="native")
    svi.run(20_000)
    for name, value in expected.items():
        torch.testing.assert_close(ember.param(name).detach(), torch.tensor(value), rtol=0.04, atol=0.0)
