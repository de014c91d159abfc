"""Train one benchmarked guide with Pyro, or with ember if started through ``python -m ember.compat``."""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from jobs import PIXELS, Job, batches
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import nn

imported = time.clock_gettime(time.CLOCK_MONOTONIC)


def mean_field(y):
    with pyro.plate("elements", len(y)):
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 0.5), obs=y)


class VAE(nn.Module):
    """The networks of :mod:`train_torch`, in a model and a guide."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, 400), nn.Softplus(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.Softplus(), nn.Linear(400, PIXELS))

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("images", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(20), torch.ones(20)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("images", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def main() -> None:
    job = Job.of(sys.argv)
    torch.set_num_threads(1)
    pyro.set_rng_seed(0)
    if "ember" in sys.modules:
        sys.modules["ember"].settings.set(execution=os.environ["BENCHMARK_EXECUTION"])
    data = {
        name: torch.as_tensor(np.asarray(value, dtype=job.dtype(value))) if np.ndim(value) else int(value)
        for name, value in job.data.items()
    }
    optimizer = pyro.optim.Adam({"lr": job.rate})
    if job.workload == "vae":
        networks = VAE()
        svi = SVI(networks.model, networks.guide, optimizer, Trace_ELBO())
        feed = [(each,) for each in batches(data["x"])]
    else:
        import pyro_models

        model = mean_field if job.workload == "mean_field" else getattr(pyro_models, job.workload)
        svi = SVI(model, AutoNormal(model, init_scale=0.1), optimizer, Trace_ELBO())
        feed = [tuple(data.values())]
    svi.step(*feed[0])
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    if "ember" in sys.modules and len(feed) == 1:
        losses = svi.run(job.steps - 1, *feed[0], disable_progbar=True).losses.tolist()
    else:
        losses = [svi.step(*feed[step % len(feed)]) for step in range(1, job.steps)]
    ended = time.clock_gettime(time.CLOCK_MONOTONIC)
    # Steps alone, after everything is compiled.
    few = min(job.steps, 2000)
    again = time.clock_gettime(time.CLOCK_MONOTONIC)
    if "ember" in sys.modules and len(feed) == 1:
        svi.run(few, *feed[0], disable_progbar=True)
    else:
        for step in range(few):
            svi.step(*feed[step % len(feed)])
    steady = (time.clock_gettime(time.CLOCK_MONOTONIC) - again) / few
    origin = float(os.environ["BENCHMARK_STARTED"])
    tail = losses[-max(1, len(losses) // 10) :]
    measured = {
        "total": ended - origin,
        "import": imported - origin,
        "first": started - imported,
        "step": 1e6 * steady,
        "loss": float(np.mean(tail)),
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
