"""Check divergences against Monte Carlo, and that torch's registry knows ember's families."""

# ruff: noqa: E501  (one example a line reads as a table)

import pytest
import torch

import ember.distributions as dist

D = torch.float64


def t(*values):
    return torch.tensor(values, dtype=D)


TRIL = torch.tensor([[1.2, 0.0], [0.3, 0.7]], dtype=D)
PAIRS = [
    ("normal", dist.Normal(t(0.0, 1.0), t(1.0, 2.0)), dist.Normal(t(0.5, 0.0), t(1.5, 1.0))),
    ("log_normal", dist.LogNormal(t(0.0), t(1.0)), dist.LogNormal(t(0.5), t(1.5))),
    ("half_normal", dist.HalfNormal(t(0.7)), dist.HalfNormal(t(1.3))),
    ("gamma", dist.Gamma(t(2.0), t(1.0)), dist.Gamma(t(3.0), t(1.5))),
    ("beta", dist.Beta(t(2.0), t(1.5)), dist.Beta(t(3.0), t(1.5))),
    ("dirichlet", dist.Dirichlet(t(2.0, 1.5, 3.0)), dist.Dirichlet(t(1.0, 1.0, 2.0))),
    ("exponential", dist.Exponential(t(2.0)), dist.Exponential(t(3.0))),
    ("laplace", dist.Laplace(t(0.0), t(1.0)), dist.Laplace(t(0.5), t(2.0))),
    ("bernoulli", dist.Bernoulli(t(0.3)), dist.Bernoulli(t(0.6))),
    ("categorical", dist.Categorical(t(0.3, 0.7)), dist.Categorical(t(0.6, 0.4))),
    ("one_hot", dist.OneHotCategorical(t(0.3, 0.7)), dist.OneHotCategorical(t(0.6, 0.4))),
    ("binomial", dist.Binomial(4, t(0.3)), dist.Binomial(4, t(0.6))),
    ("poisson", dist.Poisson(t(2.0)), dist.Poisson(t(3.0))),
    ("geometric", dist.Geometric(t(0.3)), dist.Geometric(t(0.6))),
    ("gumbel", dist.Gumbel(t(0.0), t(1.0)), dist.Gumbel(t(0.5), t(2.0))),
    ("pareto", dist.Pareto(t(2.0), t(3.0)), dist.Pareto(t(1.0), t(2.0))),
    ("uniform", dist.Uniform(t(0.2), t(0.8)), dist.Uniform(t(0.0), t(1.0))),
    ("normal_gumbel", dist.Normal(t(0.0), t(1.0)), dist.Gumbel(t(0.5), t(2.0))),
    ("mvn", dist.MultivariateNormal(t(0.0, 1.0), scale_tril=TRIL), dist.MultivariateNormal(t(1.0, 1.0), 2 * torch.eye(2, dtype=D))),
    ("independent", dist.Normal(t(0.0, 1.0), t(1.0, 2.0)).to_event(1), dist.Normal(t(0.5, 0.0), t(1.5, 1.0)).to_event(1)),
    ("independent_mvn", dist.Normal(t(0.0, 1.0), t(1.0, 2.0)).to_event(1), dist.MultivariateNormal(t(1.0, 1.0), scale_tril=TRIL)),
    ("masked", dist.Normal(t(0.0, 1.0), 1.0).mask(torch.tensor([True, False])), dist.Normal(t(0.5, 0.0), 2.0).mask(True)),
    ("masked_off", dist.Normal(t(0.0, 1.0), 1.0).mask(False), dist.Normal(t(0.5, 0.0), 2.0).mask(True)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "p", "q"), PAIRS, ids=[each[0] for each in PAIRS])
def test_against_monte_carlo(name, p, q):
    torch.manual_seed(1)
    exact = dist.kl_divergence(p, q)
    assert exact.shape == p.batch_shape
    n = 50_000
    x = p.sample(torch.Size((n,)))
    terms = p.log_prob(x) - q.log_prob(x)
    if name == "masked":
        terms = torch.where(p._mask, terms, 0.0)
    if name == "masked_off":
        terms = torch.zeros_like(terms)
    error = terms.std(0) / n**0.5
    assert ((terms.mean(0) - exact).abs() <= 5 * error + 1e-9).all(), (terms.mean(0), exact)


def test_delta():
    p = dist.Delta(t(0.3, 0.4), event_dim=1)
    q = dist.Normal(t(0.0, 1.0), 1.0).to_event(1)
    torch.testing.assert_close(dist.kl_divergence(p, q), -q.log_prob(p.v))


def test_unknown_pairs_are_refused():
    with pytest.raises(NotImplementedError):
        dist.kl_divergence(dist.Logistic(0.0, 1.0), dist.Gamma(1.0, 1.0))
    with pytest.raises(NotImplementedError, match="divergence"):
        dist.kl_divergence(
            dist.Cauchy(t(0.0, 1.0), 1.0).to_event(1), dist.MultivariateNormal(t(0.0, 1.0), scale_tril=TRIL)
        )
