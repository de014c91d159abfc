"""Time SVI steps on NumPyro, its discrete sites summed out by hand, float64."""

from __future__ import annotations

import sys
import time

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import numpyro_models
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from workloads import DISCRETE, lda

from report import describe_steps

numpyro.enable_x64()


def lda_model(words):
    with numpyro.plate("topics", 8):
        topic_weights = numpyro.sample("topic_weights", dist.Gamma(1.0 / 8, 1.0))
        topic_words = numpyro.sample("topic_words", dist.Dirichlet(jnp.ones(500) / 500))
    with numpyro.plate("documents", words.shape[1]):
        shares = numpyro.sample("shares", dist.Dirichlet(topic_weights + 1e-3))
        likelihood = (shares[None] * jnp.moveaxis(topic_words[:, words], 0, -1)).sum(-1)
        numpyro.factor("words", jnp.log(likelihood).sum(0))


def main() -> None:
    workload, steps, output = sys.argv[-3], int(sys.argv[-2]), sys.argv[-1]
    model = lda_model if workload == "lda" else getattr(numpyro_models, workload)
    data = lda() if workload == "lda" else DISCRETE[workload]()
    data = {name: jnp.asarray(value) for name, value in data.items()}
    svi = SVI(model, AutoNormal(model), numpyro.optim.Adam(0.01), Trace_ELBO())
    begun = time.perf_counter()
    state = svi.init(jax.random.PRNGKey(0), **data)

    def many(state):
        return jax.lax.fori_loop(0, steps, lambda _, each: svi.update(each, **data)[0], state)

    many = jax.jit(many).lower(state).compile()
    ready = time.perf_counter()
    state = jax.block_until_ready(many(state))
    ended = time.perf_counter()
    describe_steps(output, ready - begun, (ended - ready) / steps, float(svi.evaluate(state, **data)))


if __name__ == "__main__":
    main()
