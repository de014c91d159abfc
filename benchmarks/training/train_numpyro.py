"""Train one benchmarked guide with NumPyro, its loop compiled."""

from __future__ import annotations

import json
import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.example_libraries import stax
from jobs import PIXELS, Job, batches
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

imported = time.clock_gettime(time.CLOCK_MONOTONIC)

encoder = stax.serial(stax.Dense(400), stax.Softplus, stax.Dense(40))
decoder = stax.serial(stax.Dense(400), stax.Softplus, stax.Dense(PIXELS))


def mean_field(y):
    with numpyro.plate("elements", len(y)):
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(x, 0.5), obs=y)


def vae_model(x):
    decode = numpyro.module("decoder", decoder, (len(x), 20))
    with numpyro.plate("images", len(x)):
        z = numpyro.sample("z", dist.Normal(jnp.zeros(20), 1.0).to_event(1))
        numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)


def vae_guide(x):
    encode = numpyro.module("encoder", encoder, (len(x), PIXELS))
    with numpyro.plate("images", len(x)):
        loc, log_scale = jnp.split(encode(x), 2, -1)
        numpyro.sample("z", dist.Normal(loc, jnp.exp(log_scale)).to_event(1))


def main() -> None:
    job = Job.of(sys.argv)
    data = {
        name: int(value) if np.ndim(value) == 0 else jnp.asarray(np.asarray(value, dtype=job.dtype(value)))
        for name, value in job.data.items()
    }
    optimizer = numpyro.optim.Adam(job.rate)
    if job.workload == "vae":
        svi = SVI(vae_model, vae_guide, optimizer, Trace_ELBO())
        feed = [(each,) for each in batches(data["x"])]
    else:
        import numpyro_models

        model = mean_field if job.workload == "mean_field" else getattr(numpyro_models, job.workload)
        svi = SVI(model, AutoNormal(model), optimizer, Trace_ELBO())
        feed = [tuple(data.values())]
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    few = min(job.steps, 2000)
    if len(feed) == 1:
        result = svi.run(jax.random.key(0), job.steps, *feed[0], progress_bar=False)
        losses = np.asarray(result.losses)
        ended = time.clock_gettime(time.CLOCK_MONOTONIC)
        compiled = (
            jax.jit(lambda state: jax.lax.scan(lambda s, _: svi.stable_update(s, *feed[0]), state, None, few))
            .lower(result.state)
            .compile()
        )
        again = time.clock_gettime(time.CLOCK_MONOTONIC)
        jax.block_until_ready(compiled(result.state))
    else:
        update = jax.jit(svi.update)
        state = svi.init(jax.random.key(0), *feed[0])
        losses = []
        for step in range(job.steps):
            state, loss = update(state, *feed[step % len(feed)])
            losses.append(float(loss))
        ended = again = time.clock_gettime(time.CLOCK_MONOTONIC)
        for step in range(few):
            state, loss = update(state, *feed[step % len(feed)])
        jax.block_until_ready(loss)
    steady = (time.clock_gettime(time.CLOCK_MONOTONIC) - again) / few
    origin = float(os.environ["BENCHMARK_STARTED"])
    measured = {
        "total": ended - origin,
        "import": imported - origin,
        "first": started - imported,
        "step": 1e6 * steady,
        "loss": float(np.mean(losses[-max(1, len(losses) // 10) :])),
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
