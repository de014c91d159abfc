"""State the benchmarked posteriors in Pyro's language; ember runs this file too, through ember.compat."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch


def eight_schools(y, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * theta, sigma), obs=y)


def radon(county, floor, y, counties):
    mu_a = pyro.sample("mu_a", dist.Normal(0.0, 10.0))
    mu_b = pyro.sample("mu_b", dist.Normal(0.0, 10.0))
    sigma_a = pyro.sample("sigma_a", dist.HalfNormal(1.0))
    sigma_b = pyro.sample("sigma_b", dist.HalfNormal(1.0))
    sigma_y = pyro.sample("sigma_y", dist.HalfNormal(1.0))
    with pyro.plate("counties", int(counties)):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
    mean = (mu_a + sigma_a * a)[county] + (mu_b + sigma_b * b)[county] * floor
    with pyro.plate("homes", len(y)):
        pyro.sample("y", dist.Normal(mean, sigma_y), obs=y)


def logistic(x, y):
    with pyro.plate("columns", x.shape[1]):
        beta = pyro.sample("beta", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=x @ beta), obs=y)


logistic_10k = logistic_100k = logistic


def irt(y):
    items, persons = y.shape
    with pyro.plate("persons", persons):
        ability = pyro.sample("ability", dist.Normal(0.0, 1.0))
    with pyro.plate("items", items):
        difficulty = pyro.sample("difficulty", dist.Normal(0.0, 2.0))
        discrimination = pyro.sample("discrimination", dist.LogNormal(0.0, 0.5))
    logits = discrimination[:, None] * (ability - difficulty[:, None])
    with pyro.plate("i", items, dim=-2), pyro.plate("p", persons, dim=-1):
        pyro.sample("y", dist.Bernoulli(logits=logits), obs=y)


def stochastic_volatility(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    phi = pyro.sample("phi", dist.Uniform(-1.0, 1.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.0))
    with pyro.plate("innovations", len(y)):
        noise = pyro.sample("noise", dist.Normal(0.0, 1.0))
    h = _autoregress(mu, phi, sigma, noise)
    with pyro.plate("days", len(y)):
        pyro.sample("y", dist.Normal(0.0, torch.exp(h / 2)), obs=y)


def _autoregress(mu, phi, sigma, noise):
    first = mu + sigma * noise[0] / torch.sqrt(1 - phi**2)
    try:
        from ember.engine import scan
    except ImportError:
        h = [first]
        for each in noise[1:]:
            h.append(mu + phi * (h[-1] - mu) + sigma * each)
        return torch.stack(h)

    def step(previous, each):
        following = mu + phi * (previous - mu) + sigma * each
        return following, following

    _, rest = scan(step, first, noise[1:])
    return torch.cat([first[None], rest])


def gaussian_process(x, y):
    rho = pyro.sample("rho", dist.InverseGamma(5.0, 5.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(1.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    distance = (x[:, None] - x) / rho
    covariance = alpha**2 * torch.exp(-0.5 * distance**2) + (sigma**2 + 1e-8) * torch.eye(
        len(x), dtype=x.dtype
    )
    pyro.sample("y", dist.MultivariateNormal(torch.zeros_like(y), covariance), obs=y)


def saas(x, y):
    columns = x.shape[1]
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    variance = pyro.sample("variance", dist.Gamma(2.0, 0.15))
    noise = pyro.sample("noise", dist.Gamma(0.9, 10.0))
    tausq = pyro.sample("tausq", dist.HalfCauchy(0.1))
    inv_length_sq = pyro.sample("inv_length_sq", dist.HalfCauchy(torch.ones(columns)).to_event(1))
    scaled = x * torch.sqrt(tausq * inv_length_sq)
    squares = ((scaled[:, None, :] - scaled) ** 2).sum(-1)
    distance = math.sqrt(5.0) * torch.sqrt(squares + 1e-12)
    kernel = variance * (1 + distance + distance**2 / 3) * torch.exp(-distance)
    covariance = kernel + (noise + 1e-6) * torch.eye(len(x), dtype=x.dtype)
    pyro.sample("y", dist.MultivariateNormal(mean.expand(len(x)), covariance), obs=y)


def mixture(y):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("components", 3):
        loc = pyro.sample("loc", dist.Normal(torch.tensor([-3.0, 0.0, 3.0]), 0.5))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
    with pyro.plate("data", len(y)):
        z = pyro.sample("z", dist.Categorical(weights), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(loc[z], scale[z]), obs=y)


def hmm_50(y):
    with pyro.plate("states", 3):
        transition = pyro.sample("transition", dist.Dirichlet(torch.ones(3)))
        loc = pyro.sample("loc", dist.Normal(torch.tensor([-2.0, 0.0, 2.0]), 0.5))
    x = 0
    for t in pyro.markov(range(len(y))):
        x = pyro.sample(f"x{t}", dist.Categorical(transition[x]), infer={"enumerate": "parallel"})
        pyro.sample(f"y{t}", dist.Normal(loc[x], 1.0), obs=y[t])


hmm_500 = hmm_50
