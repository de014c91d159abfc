"""Write posteriordb's posteriors as models, in the form that programs of this language have.

Each entry of ``POSTERIORS`` has the model and the function that reads its data. Sites, latent or
deterministic, are named as the reference's parameters are; ``name[k]`` there is element k - 1 here.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import torch

import ember as pyro
import ember.distributions as dist
from ember.distributions import constraints

FOLDER = Path(__file__).parents[1] / "data" / "posteriordb"


class Posterior(NamedTuple):
    model: object
    arguments: object  # data as read from JSON -> dict of the model's arguments


def improper(constraint, event_shape=()):
    return dist.ImproperUniform(constraint, (), event_shape)


def floats(values):
    return torch.tensor(values, dtype=torch.get_default_dtype())


def linear_regression(x, y):
    """Flat priors on coefficients and on sigma itself."""
    beta = pyro.sample("beta", improper(constraints.real_vector, (x.shape[1],)))
    sigma = pyro.sample("sigma", improper(constraints.positive))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def kidscore_momiq(iq, score):
    beta = pyro.sample("beta", improper(constraints.real_vector, (2,)))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("children", len(score)):
        pyro.sample("score", dist.Normal(beta[0] + beta[1] * iq, sigma), obs=score)


def kidiq_data(data):
    return {"iq": floats(data["mom_iq"]), "score": floats(data["kid_score"])}


def earnings_data(data):
    height, male = floats(data["height"]), floats(data["male"])
    z = (height - height.mean()) / height.std()
    x = torch.stack([torch.ones_like(z), z, male, z * male], -1)
    return {"x": x, "y": floats(data["earn"]).log()}


def mesquite_data(data):
    d1, d2, canopy = (floats(data[name]) for name in ("diam1", "diam2", "canopy_height"))
    columns = [
        torch.ones_like(d1),
        (d1 * d2 * canopy).log(),
        (d1 * d2).log(),
        (d1 / d2).log(),
        floats(data["total_height"]).log(),
        floats(data["group"]),
    ]
    return {"x": torch.stack(columns, -1), "y": floats(data["weight"]).log()}


def nes_data(data):
    age = torch.tensor(data["age_discrete"])
    columns = [torch.ones(len(age)), floats(data["real_ideo"]), floats(data["race_adj"])]
    columns += [floats((age == group).tolist()) for group in (2, 3, 4)]
    columns += [floats(data[name]) for name in ("educ1", "gender", "income")]
    return {"x": torch.stack(columns, -1), "y": floats(data["partyid7"])}


def blr(x, y):
    with pyro.plate("columns", x.shape[1]):
        beta = pyro.sample("beta", dist.Normal(0.0, 10.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def sblrc_data(data):
    return {"x": floats(data["X"]), "y": floats(data["y"])}


def kilpisjarvi(year, y, priors):
    alpha = pyro.sample("alpha", dist.Normal(priors["pmualpha"], priors["psalpha"]))
    beta = pyro.sample("beta", dist.Normal(priors["pmubeta"], priors["psbeta"]))
    sigma = pyro.sample("sigma", improper(constraints.positive))
    with pyro.plate("years", len(y)):
        pyro.sample("y", dist.Normal(alpha + beta * year, sigma), obs=y)


def kilpisjarvi_data(data):
    return {"year": floats(data["x"]), "y": floats(data["y"]), "priors": data}


def eight_schools(y, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def eight_schools_data(data):
    return {"y": floats(data["y"]), "sigma": floats(data["sigma"])}


def ar_k(y, order):
    alpha = pyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = pyro.sample("beta", dist.Normal(torch.zeros(order), 10.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    mean = alpha + sum(beta[k] * y[order - 1 - k : len(y) - 1 - k] for k in range(order))
    with pyro.plate("time", len(y) - order):
        pyro.sample("y", dist.Normal(mean, sigma), obs=y[order:])


def ar_k_data(data):
    return {"y": floats(data["y"]), "order": data["K"]}


def hmm(y):
    with pyro.plate("states", 2):
        theta = pyro.sample("theta", dist.Dirichlet(torch.ones(2)))
    pyro.deterministic("theta1", theta[0])
    pyro.deterministic("theta2", theta[1])
    mu = pyro.sample("mu", improper(constraints.positive_ordered_vector, (2,)))
    pyro.factor("mu_prior", dist.Normal(torch.tensor([3.0, 10.0]), 1.0).log_prob(mu).sum())
    log_theta = theta.log()
    emission = dist.Normal(mu, 1.0).log_prob(y.unsqueeze(-1))
    forward = emission[0] - math.log(2.0)
    for t in range(1, len(y)):
        forward = torch.logsumexp(forward.unsqueeze(-1) + log_theta, 0) + emission[t]
    pyro.factor("y", torch.logsumexp(forward, 0))


def gauss_mix(y):
    mu = pyro.sample("mu", improper(constraints.ordered_vector, (2,)))
    pyro.factor("mu_prior", dist.Normal(0.0, 2.0).log_prob(mu).sum())
    with pyro.plate("components", 2):
        sigma = pyro.sample("sigma", dist.HalfNormal(2.0))
    theta = pyro.sample("theta", dist.Beta(5.0, 5.0))
    weights = dist.Categorical(torch.stack([theta, 1.0 - theta]))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=y)


def only_y(data):
    return {"y": floats(data["y"])}


def gp_regression(x, y):
    rho = pyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(2.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    distance = (x.unsqueeze(-1) - x) / rho
    kernel = alpha**2 * torch.exp(-0.5 * distance**2) + sigma * torch.eye(len(x))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), kernel), obs=y)


def gp_data(data):
    return {"x": floats(data["x"]), "y": floats(data["y"])}


def one_compartment(times, observed, dose, volume, start, steps=4):
    k_a = pyro.sample("k_a", dist.HalfCauchy(1.0))
    k_m = pyro.sample("K_m", dist.HalfCauchy(1.0))
    v_m = pyro.sample("V_m", dist.HalfCauchy(1.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(1.0))

    def slope(t, c):
        return dose * k_a / volume * torch.exp(-k_a * t) - v_m / volume * c / (k_m + c)

    concentration, time, values = torch.zeros(()), start, []
    for end in times:
        h = (end - time) / steps
        for step in range(steps):
            t = time + step * h
            k1 = slope(t, concentration)
            k2 = slope(t + h / 2, concentration + h / 2 * k1)
            k3 = slope(t + h / 2, concentration + h / 2 * k2)
            k4 = slope(t + h, concentration + h * k3)
            concentration = concentration + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        values.append(concentration)
        time = end
    with pyro.plate("times", len(times)):
        pyro.sample("C_hat", dist.LogNormal(torch.stack(values).log(), sigma), obs=observed)


def one_compartment_data(data):
    return {
        "times": data["times"],
        "observed": floats(data["C_hat"]),
        "dose": float(data["D"]),
        "volume": float(data["V"]),
        "start": float(data["t0"]),
    }


def radon(county, uranium, floor, log_radon):
    mu_alpha = pyro.sample("mu_alpha", dist.Normal(0.0, 10.0))
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 10.0).to_event(1))
    sigma_alpha = pyro.sample("sigma_alpha", dist.HalfNormal(1.0))
    sigma_y = pyro.sample("sigma_y", dist.HalfNormal(1.0))
    with pyro.plate("counties", 85):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
    alpha = pyro.deterministic("alpha", mu_alpha + sigma_alpha * eta)
    mean = alpha[county] + beta[0] * uranium + beta[1] * floor
    with pyro.plate("homes", len(county)):
        pyro.sample("log_radon", dist.Normal(mean, sigma_y), obs=log_radon)


def radon_data(data):
    return {
        "county": torch.tensor(data["county_idx"]) - 1,
        "uranium": floats(data["log_uppm"]),
        "floor": floats(data["floor_measure"]),
        "log_radon": floats(data["log_radon"]),
    }


def dogs(avoided, shocked, y):
    beta = pyro.sample("beta", dist.Normal(torch.zeros(3), 100.0).to_event(1))
    logits = beta[0] + beta[1] * avoided + beta[2] * shocked
    with pyro.plate("trials", y.shape[1]), pyro.plate("dogs", y.shape[0], dim=-2):
        pyro.sample("y", dist.Bernoulli(logits=logits), obs=y)


def dogs_data(data):
    y = floats(data["y"])
    shocked = y.cumsum(1) - y
    return {"avoided": torch.arange(y.shape[1]) - shocked, "shocked": shocked, "y": y}


def poisson_glmm(year, counts):
    alpha = pyro.sample("alpha", dist.Uniform(-20.0, 20.0))
    beta1 = pyro.sample("beta1", dist.Uniform(-10.0, 10.0))
    beta2 = pyro.sample("beta2", dist.Uniform(-10.0, 20.0))
    beta3 = pyro.sample("beta3", dist.Uniform(-10.0, 10.0))
    sigma = pyro.sample("sigma", dist.Uniform(0.0, 5.0))
    with pyro.plate("years", len(year)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        eps = pyro.deterministic("eps", sigma * eta)
        rate = alpha + beta1 * year + beta2 * year**2 + beta3 * year**3 + eps
        pyro.sample("C", dist.Poisson(torch.exp(rate)), obs=counts)


def poisson_glmm_data(data):
    return {"year": floats(data["year"]), "counts": floats(data["C"])}


POSTERIORS = {
    "kidiq-kidscore_momiq": Posterior(kidscore_momiq, kidiq_data),
    "earnings-logearn_interaction_z": Posterior(linear_regression, earnings_data),
    "mesquite-logmesquite_logvash": Posterior(linear_regression, mesquite_data),
    "nes2000-nes": Posterior(linear_regression, nes_data),
    "sblrc-blr": Posterior(blr, sblrc_data),
    "kilpisjarvi_mod-kilpisjarvi": Posterior(kilpisjarvi, kilpisjarvi_data),
    "eight_schools-eight_schools_noncentered": Posterior(eight_schools, eight_schools_data),
    "arK-arK": Posterior(ar_k, ar_k_data),
    "hmm_example-hmm_example": Posterior(hmm, only_y),
    "low_dim_gauss_mix-low_dim_gauss_mix": Posterior(gauss_mix, only_y),
    "gp_pois_regr-gp_regr": Posterior(gp_regression, gp_data),
    "one_comp_mm_elim_abs-one_comp_mm_elim_abs": Posterior(one_compartment, one_compartment_data),
    "radon_mn-radon_hierarchical_intercept_noncentered": Posterior(radon, radon_data),
    "dogs-dogs": Posterior(dogs, dogs_data),
    "GLMM_Poisson_data-GLMM_Poisson_model": Posterior(poisson_glmm, poisson_glmm_data),
}


def reference(name):
    """Return data file, dimension and parameters' figures of a posterior."""
    return json.loads((FOLDER / "reference.json").read_text())["posteriors"][name]


def load(name):
    """Return a posterior's model and its arguments."""
    posterior = POSTERIORS[name]
    data = json.loads((FOLDER / reference(name)["data"]).read_text())
    return posterior.model, posterior.arguments(data)
