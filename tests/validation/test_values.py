"""Tabulate what is said of values: outside the support, NaN, infinite, of wrong types."""

import torch
from table import PASSES, Row, bernoulli, check, inside, over, plate, raises, warns

import ember
import ember.distributions as dist

NAN, INF = float("nan"), float("inf")
OUTSIDE = "Error while computing log_prob at site 'x'"


def seen(fn, value):
    """A model that observes a value."""
    value = torch.as_tensor(value)
    return lambda: ember.sample("x", fn, obs=value)


def guided(model_fn, guide_fn):
    """A latent site whose guide has another support."""
    return {"model": lambda: ember.sample("z", model_fn), "guide": lambda: ember.sample("z", guide_fn)}


ROWS = [
    Row("a value in the support", PASSES, seen(dist.Gamma(2.0, 1.0), 1.5)),
    Row("negative under Gamma", raises(OUTSIDE, "-1.5", "Gamma"), seen(dist.Gamma(2.0, 1.0), -1.5)),
    Row("negative counts", raises(OUTSIDE, "Poisson"), seen(dist.Poisson(2.0), -1.0)),
    Row("fractional counts", raises(OUTSIDE), seen(dist.Poisson(2.0), 1.5)),
    Row("a bit of two", raises(OUTSIDE, "Bernoulli"), seen(dist.Bernoulli(0.5), 2.0)),
    Row("a category too far", raises(OUTSIDE, "Categorical"), seen(dist.Categorical(torch.ones(3)), 3)),
    Row("a boolean under Bernoulli", PASSES, seen(dist.Bernoulli(0.5), torch.tensor(True).float())),
    Row("more successes than trials", raises(OUTSIDE), seen(dist.Binomial(3, torch.tensor(0.5)), 4.0)),
    Row("a simplex that is none", raises(OUTSIDE), seen(dist.Dirichlet(torch.ones(3)), torch.ones(3))),
    Row("above a uniform", raises(OUTSIDE), seen(dist.Uniform(0.0, 1.0), 1.5)),
    Row(
        "one of many outside",
        raises(OUTSIDE, "p(size=3, dim=-1)"),
        lambda: inside(plate(), seen(dist.Exponential(1.0), [1.0, -2.0, 3.0])),
    ),
    Row("NaN in data", raises(OUTSIDE, "nan"), seen(dist.Normal(0.0, 1.0), NAN)),
    Row(
        "NaN in data, masked",
        raises(OUTSIDE),
        lambda: inside(
            plate("p", 2),
            ember.poutine.mask(mask=torch.tensor([True, False])),
            seen(dist.Normal(0.0, 1.0), [1.0, NAN]),
        ),
    ),
    Row("NaN in data that may be missing", PASSES, seen(dist.NanMaskedNormal(0.0, 1.0), NAN)),
    Row("infinite data", warns("Encountered inf: loss, from site 'x'"), seen(dist.Normal(0.0, 1.0), INF)),
    Row(
        "infinitely improbable data",
        warns("Encountered inf: loss, from site 'x'"),
        seen(dist.Normal(0.0, 1.0), 1e30),
    ),
    Row(
        "a plain number as data",
        raises("x", error=(ValueError, TypeError, AttributeError)),
        lambda: ember.sample("x", dist.Normal(0.0, 1.0), obs=1.0),
    ),
    Row(
        "an array as data",
        raises("x", error=(ValueError, TypeError, AttributeError)),
        lambda: ember.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0).numpy()),
    ),
    Row(
        "float64 data under float32",
        PASSES,
        seen(dist.Normal(0.0, 1.0), torch.tensor(1.0, dtype=torch.float64)),
    ),
    Row("integer data under a normal", PASSES, seen(dist.Normal(0.0, 1.0), torch.tensor(1))),
    Row(
        "a negative scale", raises("scale", "Normal", "-1"), lambda: ember.sample("x", dist.Normal(0.0, -1.0))
    ),
    Row(
        "a NaN location", raises("loc", "nan"), lambda: ember.sample("x", dist.Normal(torch.tensor(NAN), 1.0))
    ),
    Row("a probability above one", raises("probs"), lambda: bernoulli("x", probs=1.5)),
    Row("a negative rate", raises("rate"), lambda: ember.sample("x", dist.Poisson(-1.0))),
    Row(
        "weights below zero",
        raises("probs"),
        lambda: ember.sample("x", dist.Categorical(torch.tensor([0.5, -0.5]))),
    ),
    Row(
        "a covariance that is none",
        raises("covariance_matrix"),
        lambda: ember.sample("x", dist.MultivariateNormal(torch.zeros(2), -torch.eye(2))),
    ),
    Row("an empty interval", raises("Uniform"), lambda: ember.sample("x", dist.Uniform(1.0, 0.0))),
    Row(
        "parameters that do not broadcast",
        raises("3", "4", error=(ValueError, RuntimeError)),
        lambda: ember.sample("x", dist.Normal(torch.zeros(3), torch.ones(4))),
    ),
    # -- supports of guides --------------------------------------------------------------------------------
    Row(
        "a normal guides a positive site",
        raises("Error while computing log_prob at site 'z'", "Exponential"),
        **guided(dist.Exponential(1.0), dist.Normal(-9.0, 1.0)),
    ),
    Row(
        "a log-normal guides a positive site",
        PASSES,
        **guided(dist.Exponential(1.0), dist.LogNormal(0.0, 1.0)),
    ),
    Row(
        "a wider interval guides",
        raises("log_prob at site 'z'", "Uniform"),
        **guided(dist.Uniform(0.0, 1.0), dist.Uniform(2.0, 3.0)),
    ),
    Row("a narrower interval guides", PASSES, **guided(dist.Uniform(0.0, 1.0), dist.Uniform(0.2, 0.8))),
    Row(
        "a count guides a category",
        raises("log_prob at site 'z'", "Categorical"),
        **guided(dist.Categorical(torch.ones(3)), dist.Delta(torch.tensor(7.0))),
    ),
    Row(
        "a point mass outside the support",
        raises("log_prob at site 'z'"),
        **guided(dist.Beta(1.0, 1.0), dist.Delta(torch.tensor(2.0))),
    ),
    Row(
        "a simplex guided by a softmax",
        PASSES,
        **guided(dist.Dirichlet(torch.ones(3)), dist.LogisticNormal(torch.zeros(2), torch.ones(2))),
    ),
    # -- sums that are not finite --------------------------------------------------------------------------
    Row(
        "a factor that is NaN",
        raises("log_factor", "Unit", "invalid values"),
        lambda: ember.factor("f", torch.tensor(NAN)),
    ),
    Row(
        "a factor that is infinite",
        warns("Encountered +inf: log_prob_sum at site 'f'", "Encountered -inf: loss, from site 'f'"),
        lambda: ember.factor("f", torch.tensor(INF)),
    ),
    Row(
        "a gradient that is NaN",
        PASSES,
        lambda: ember.factor("f", ember.param("a", torch.tensor(1.0)).sqrt()),
    ),
    Row(
        "a log of zero",
        warns("Encountered inf: loss, from site 'f'"),
        lambda: ember.factor("f", torch.tensor(0.0).log()),
    ),
]


@over(ROWS)
def test_values(row, objective):
    check(row, objective)
