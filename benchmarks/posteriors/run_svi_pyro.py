"""Time SVI steps with enumeration on Pyro, or on ember if started through ``python -m ember.compat``."""

from __future__ import annotations

import sys
import time

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal
from workloads import DISCRETE, lda

from report import describe_steps

import pyro_models  # isort: skip


def lda_model(words):
    with pyro.plate("topics", 8):
        topic_weights = pyro.sample("topic_weights", dist.Gamma(1.0 / 8, 1.0))
        topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(500) / 500))
    with pyro.plate("documents", words.shape[1]):
        shares = pyro.sample("shares", dist.Dirichlet(topic_weights + 1e-3))
        with pyro.plate("words", words.shape[0]):
            topic = pyro.sample("topic", dist.Categorical(shares), infer={"enumerate": "parallel"})
            pyro.sample("word", dist.Categorical(topic_words[topic]), obs=words)


def main() -> None:
    workload, steps, output = sys.argv[-3], int(sys.argv[-2]), sys.argv[-1]
    if workload == "lda":
        model, data, hidden = lda_model, lda(), ["topic"]
    else:
        model, data = getattr(pyro_models, workload), DISCRETE[workload]()
        hidden = ["z", *(f"x{t}" for t in range(500))]
    data = {name: torch.as_tensor(value) for name, value in data.items()}
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    pyro.set_rng_seed(0)
    pyro.enable_validation(False)
    guide = AutoNormal(poutine.block(model, hide=hidden))
    nesting = {"mixture": 1, "lda": 2}.get(workload, 1)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=nesting))

    def take(number: int) -> float:
        if "ember" in sys.modules:
            return float(svi.run(number, disable_progbar=True, **data).losses[-1])
        return [svi.step(**data) for _ in range(number)][-1]

    begun = time.perf_counter()
    take(40 if "ember" in sys.modules else 2)  # ember compiles after thirty
    ready = time.perf_counter()
    loss = take(steps)
    ended = time.perf_counter()
    describe_steps(output, ready - begun, (ended - ready) / steps, loss)


if __name__ == "__main__":
    main()
