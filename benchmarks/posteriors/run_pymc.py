"""Sample one benchmarked posterior with PyMC and nutpie."""

from __future__ import annotations

import math
import sys
import time

import numpy as np
import nutpie
import pymc as pm
import pytensor
import pytensor.tensor as pt

from report import describe_run, elapsed, parse


def eight_schools(y, sigma):
    mu, tau = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
    theta = pm.Normal("theta", 0.0, 1.0, shape=len(y))
    pm.Normal("y", mu + tau * theta, sigma, observed=y)


def radon(county, floor, y, counties):
    mu_a, mu_b = pm.Normal("mu_a", 0.0, 10.0), pm.Normal("mu_b", 0.0, 10.0)
    sigma_a, sigma_b = pm.HalfNormal("sigma_a", 1.0), pm.HalfNormal("sigma_b", 1.0)
    sigma_y = pm.HalfNormal("sigma_y", 1.0)
    a, b = pm.Normal("a", 0.0, 1.0, shape=int(counties)), pm.Normal("b", 0.0, 1.0, shape=int(counties))
    mean = (mu_a + sigma_a * a)[county] + (mu_b + sigma_b * b)[county] * floor
    pm.Normal("y", mean, sigma_y, observed=y)


def logistic(x, y):
    beta = pm.Normal("beta", 0.0, 1.0, shape=x.shape[1])
    pm.Bernoulli("y", logit_p=pt.dot(x, beta), observed=y)


logistic_10k = logistic_100k = logistic


def irt(y):
    items, persons = y.shape
    ability = pm.Normal("ability", 0.0, 1.0, shape=persons)
    difficulty = pm.Normal("difficulty", 0.0, 2.0, shape=items)
    discrimination = pm.LogNormal("discrimination", 0.0, 0.5, shape=items)
    pm.Bernoulli("y", logit_p=discrimination[:, None] * (ability - difficulty[:, None]), observed=y)


def stochastic_volatility(y):
    mu, phi, sigma = pm.Normal("mu", 0.0, 5.0), pm.Uniform("phi", -1.0, 1.0), pm.HalfCauchy("sigma", 2.0)
    noise = pm.Normal("noise", 0.0, 1.0, shape=len(y))
    first = mu + sigma * noise[0] / pt.sqrt(1 - phi**2)
    rest, _ = pytensor.scan(
        lambda each, previous, mu, phi, sigma: mu + phi * (previous - mu) + sigma * each,
        sequences=[noise[1:]],
        outputs_info=[first],
        non_sequences=[mu, phi, sigma],
        strict=True,
    )
    pm.Normal("y", 0.0, pt.exp(pt.concatenate([first[None], rest]) / 2), observed=y)


def gaussian_process(x, y):
    rho, alpha = pm.InverseGamma("rho", 5.0, 5.0), pm.HalfNormal("alpha", 1.0)
    sigma = pm.HalfNormal("sigma", 1.0)
    distance = (x[:, None] - x[None, :]) / rho
    covariance = alpha**2 * pt.exp(-0.5 * distance**2) + (sigma**2 + 1e-8) * pt.eye(len(x))
    pm.MvNormal("y", np.zeros(len(x)), cov=covariance, observed=y)


def saas(x, y):
    mean = pm.Normal("mean", 0.0, 1.0)
    variance, noise = pm.Gamma("variance", 2.0, 0.15), pm.Gamma("noise", 0.9, 10.0)
    tausq = pm.HalfCauchy("tausq", 0.1)
    inv_length_sq = pm.HalfCauchy("inv_length_sq", 1.0, shape=x.shape[1])
    scaled = x * pt.sqrt(tausq * inv_length_sq)
    squares = ((scaled[:, None, :] - scaled[None, :, :]) ** 2).sum(-1)
    distance = math.sqrt(5.0) * pt.sqrt(squares + 1e-12)
    kernel = variance * (1 + distance + distance**2 / 3) * pt.exp(-distance)
    covariance = kernel + (noise + 1e-6) * pt.eye(len(x))
    pm.MvNormal("y", pt.ones(len(x)) * mean, cov=covariance, observed=y)


def mixture(y):
    weights = pm.Dirichlet("weights", np.ones(3))
    loc = pm.Normal("loc", np.array([-3.0, 0.0, 3.0]), 0.5)
    scale = pm.LogNormal("scale", 0.0, 0.5, shape=3)
    pm.NormalMixture("y", w=weights, mu=loc, sigma=scale, observed=y)


def hmm_50(y):
    transition = pm.Dirichlet("transition", np.ones((3, 3)))
    loc = pm.Normal("loc", np.array([-2.0, 0.0, 2.0]), 0.5)
    emission = pm.logp(pm.Normal.dist(loc, 1.0), y[:, None])
    alpha, _ = pytensor.scan(
        lambda row, alpha, log_transition: pt.logsumexp(alpha[:, None] + log_transition, axis=0) + row,
        sequences=[emission[1:]],
        outputs_info=[pt.log(transition[0]) + emission[0]],
        non_sequences=[pt.log(transition)],
        strict=True,
    )
    pm.Potential("evidence", pt.logsumexp(alpha[-1]))


hmm_500 = hmm_50


def main() -> None:
    run = parse(sys.argv)
    begun = time.perf_counter()
    with pm.Model() as model:
        globals()[run.workload](**run.data)
        compiled = nutpie.compile_pymc_model(model)
    compiled_at = time.perf_counter()
    trace = nutpie.sample(
        compiled,
        draws=run.draws,
        tune=run.warmup,
        chains=run.chains,
        cores=2,
        seed=run.seed,
        progress_bar=False,
        save_warmup=True,
        low_rank_modified_mass_matrix=False,
    )
    ended = time.perf_counter()
    total_seconds = elapsed()
    steps = sum(int(group["n_steps"].sum()) for group in (trace.sample_stats, trace.warmup_sample_stats))
    names = [str(variable.name) for variable in model.free_RVs]
    describe_run(
        run,
        {name: trace.posterior[name].values for name in names},
        total_seconds=total_seconds,
        compile_seconds=compiled_at - begun,
        sampling_seconds=ended - compiled_at,
        leapfrogs=steps,
        gradient_microseconds=time_gradient(model),
    )


def time_gradient(model, repetitions: int = 200) -> float:
    """Time PyMC's value and gradient as numba code, called from Python."""
    variables = model.value_vars
    function = pytensor.function(
        variables, [model.logp(), model.dlogp()], mode="NUMBA", on_unused_input="ignore"
    )
    point = [model.initial_point()[variable.name] for variable in variables]
    function(*point)
    begun = time.perf_counter()
    for _ in range(repetitions):
        function(*point)
    return 1e6 * (time.perf_counter() - begun) / repetitions


if __name__ == "__main__":
    main()
