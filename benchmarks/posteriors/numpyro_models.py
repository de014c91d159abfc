"""State the benchmarked posteriors in NumPyro's language."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist


def eight_schools(y, sigma):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(y)):
        theta = numpyro.sample("theta", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu + tau * theta, sigma), obs=y)


def radon(county, floor, y, counties):
    mu_a = numpyro.sample("mu_a", dist.Normal(0.0, 10.0))
    mu_b = numpyro.sample("mu_b", dist.Normal(0.0, 10.0))
    sigma_a = numpyro.sample("sigma_a", dist.HalfNormal(1.0))
    sigma_b = numpyro.sample("sigma_b", dist.HalfNormal(1.0))
    sigma_y = numpyro.sample("sigma_y", dist.HalfNormal(1.0))
    with numpyro.plate("counties", counties):
        a = numpyro.sample("a", dist.Normal(0.0, 1.0))
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    mean = (mu_a + sigma_a * a)[county] + (mu_b + sigma_b * b)[county] * floor
    with numpyro.plate("homes", len(y)):
        numpyro.sample("y", dist.Normal(mean, sigma_y), obs=y)


def logistic(x, y):
    with numpyro.plate("columns", x.shape[1]):
        beta = numpyro.sample("beta", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Bernoulli(logits=x @ beta), obs=y)


logistic_10k = logistic_100k = logistic


def irt(y):
    items, persons = y.shape
    with numpyro.plate("persons", persons):
        ability = numpyro.sample("ability", dist.Normal(0.0, 1.0))
    with numpyro.plate("items", items):
        difficulty = numpyro.sample("difficulty", dist.Normal(0.0, 2.0))
        discrimination = numpyro.sample("discrimination", dist.LogNormal(0.0, 0.5))
    logits = discrimination[:, None] * (ability - difficulty[:, None])
    numpyro.sample("y", dist.Bernoulli(logits=logits).to_event(2), obs=y)


def stochastic_volatility(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    phi = numpyro.sample("phi", dist.Uniform(-1.0, 1.0))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.0))
    with numpyro.plate("innovations", len(y)):
        noise = numpyro.sample("noise", dist.Normal(0.0, 1.0))
    first = mu + sigma * noise[0] / jnp.sqrt(1 - phi**2)

    def step(previous, each):
        following = mu + phi * (previous - mu) + sigma * each
        return following, following

    _, rest = jax.lax.scan(step, first, noise[1:])
    h = jnp.concatenate([first[None], rest])
    with numpyro.plate("days", len(y)):
        numpyro.sample("y", dist.Normal(0.0, jnp.exp(h / 2)), obs=y)


def gaussian_process(x, y):
    rho = numpyro.sample("rho", dist.InverseGamma(5.0, 5.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(1.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    distance = (x[:, None] - x) / rho
    covariance = alpha**2 * jnp.exp(-0.5 * distance**2) + (sigma**2 + 1e-8) * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros_like(y), covariance), obs=y)


def saas(x, y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    variance = numpyro.sample("variance", dist.Gamma(2.0, 0.15))
    noise = numpyro.sample("noise", dist.Gamma(0.9, 10.0))
    tausq = numpyro.sample("tausq", dist.HalfCauchy(0.1))
    inv_length_sq = numpyro.sample("inv_length_sq", dist.HalfCauchy(jnp.ones(x.shape[1])).to_event(1))
    scaled = x * jnp.sqrt(tausq * inv_length_sq)
    squares = ((scaled[:, None, :] - scaled) ** 2).sum(-1)
    distance = math.sqrt(5.0) * jnp.sqrt(squares + 1e-12)
    kernel = variance * (1 + distance + distance**2 / 3) * jnp.exp(-distance)
    covariance = kernel + (noise + 1e-6) * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.full(len(x), mean), covariance), obs=y)


def mixture(y):
    """Summed out by hand."""
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("components", 3):
        loc = numpyro.sample("loc", dist.Normal(jnp.array([-3.0, 0.0, 3.0]), 0.5))
        scale = numpyro.sample("scale", dist.LogNormal(0.0, 0.5))
    with numpyro.plate("data", len(y)):
        family = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(loc, scale))
        numpyro.sample("y", family, obs=y)


def hmm_50(y):
    """Summed out by hand: the forward algorithm."""
    with numpyro.plate("states", 3):
        transition = numpyro.sample("transition", dist.Dirichlet(jnp.ones(3)))
        loc = numpyro.sample("loc", dist.Normal(jnp.array([-2.0, 0.0, 2.0]), 0.5))
    emission = dist.Normal(loc, 1.0).log_prob(y[:, None])

    def step(alpha, row):
        return jax.nn.logsumexp(alpha[:, None] + jnp.log(transition), 0) + row, None

    alpha, _ = jax.lax.scan(step, jnp.log(transition[0]) + emission[0], emission[1:])
    numpyro.factor("evidence", jax.nn.logsumexp(alpha))


hmm_500 = hmm_50
