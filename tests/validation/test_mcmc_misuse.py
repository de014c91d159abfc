"""Tabulate what MCMC says of models that it cannot sample, and of its own options."""

import pytest
import torch
from table import PASSES, bernoulli, categorical, inside, judge, normal, observe, plate, raises, warns

import ember
import ember.distributions as dist
from ember.infer import HMC, MCMC, NUTS, Predictive


def run(model, kernel=NUTS, mcmc=None, **how):
    """Draw twice, eagerly."""

    def act():
        with ember.settings.context(execution="eager"):
            options = {"num_samples": 2, "warmup_steps": 2, "disable_progbar": True, **(mcmc or {})}
            MCMC(kernel(model, **how), **options).run()

    return act


def mixture():
    w = ember.sample("w", dist.Normal(0.0, 1.0))
    inside(plate(), lambda: observe("x", w + categorical("k", infer={"enumerate": "parallel"}), 3))


ROWS = {
    "a continuous site": (PASSES, run(lambda: normal("z"))),
    "a vector in a plate": (PASSES, run(lambda: inside(plate(), lambda: normal("z")))),
    "a mixture, summed out": (PASSES, run(mixture)),
    "no latent site": (
        raises("the model has no latent site", "x (observed)"),
        run(lambda: observe("x", 0.0)),
    ),
    "nothing": (raises("the model has no latent site"), run(lambda: None)),
    "only discrete sites": (
        raises("discrete latent sites cannot be sampled by gradients: 'z' ~ Bernoulli"),
        run(lambda: bernoulli("z")),
    ),
    "a discrete site of infinite support": (
        raises("discrete latent sites cannot be sampled by gradients: 'n' ~ Poisson", "test_mcmc_misuse.py"),
        run(lambda: (normal("z"), ember.sample("n", dist.Poisson(3.0)))),
    ),
    "a subsampling plate": (
        warns("the plate 'p' subsamples, and this posterior is that of one minibatch"),
        run(lambda: (normal("z"), inside(ember.plate("p", 6, 2), lambda: observe("x", 0.0, 2)))),
    ),
    "an improbable start": (
        raises("'wall'", error=(ValueError, RuntimeError)),
        run(lambda: (normal("z"), ember.factor("wall", torch.tensor(-float("inf"))))),
    ),
    "data outside the support": (
        raises("site 'x'"),
        run(lambda: ember.sample("x", dist.Exponential(normal("z").exp()), obs=torch.tensor(-1.0))),
    ),
    "one name twice": (
        raises("Multiple sample sites named 'z'", error=RuntimeError),
        run(lambda: (normal("z"), normal("z"))),
    ),
    "a model that raises": (raises("my own words"), run(lambda: _fail())),
    "no samples": (raises("num_samples"), run(lambda: normal("z"), mcmc={"num_samples": 0})),
    "negative warmup": (raises("warmup_steps"), run(lambda: normal("z"), mcmc={"warmup_steps": -1})),
    "no chains": (raises("num_chains"), run(lambda: normal("z"), mcmc={"num_chains": 0})),
    "initial values of other names": (
        raises("values are needed for each latent site, and for no other", "expected: z", "unknown: y"),
        run(lambda: normal("z"), mcmc={"initial_params": {"y": torch.tensor(0.0)}}),
    ),
    "a negative step size": (raises("step_size"), run(lambda: normal("z"), step_size=-1.0)),
    "a target of two": (raises("target_accept_prob"), run(lambda: normal("z"), target_accept_prob=2.0)),
    "a number of steps": (PASSES, run(lambda: normal("z"), HMC, num_steps=3)),
    "neither a model nor a potential": (raises("model", "potential_fn"), run(None)),
    "predictions without a number": (
        raises("num_samples must be specified"),
        lambda: Predictive(lambda: normal("z")),
    ),
    "posterior draws of several numbers": (
        raises("'a'", "'b'"),
        lambda: Predictive(lambda: normal("z"), {"a": torch.zeros(3), "b": torch.zeros(4)}),
    ),
    "fewer draws than said": (
        warns("posterior_samples holds 3 draws"),
        lambda: Predictive(lambda: normal("z"), {"z": torch.zeros(3)}, num_samples=5)(),
    ),
    "draws of another site": (PASSES, lambda: Predictive(lambda: normal("z"), {"a": torch.zeros(3)})()),
}


def _fail():
    normal("z")
    raise ValueError("my own words")


@pytest.mark.parametrize("name", ROWS)
def test_mcmc(name):
    judge(*ROWS[name])
