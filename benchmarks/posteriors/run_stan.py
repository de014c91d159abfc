"""Sample one benchmarked posterior with PyStan."""

from __future__ import annotations

import sys
import time

import numpy as np
import stan
from stan_models import MODELS

from report import describe_run, elapsed, parse


def main() -> None:
    run = parse(sys.argv)
    program, integers, sizes = MODELS[run.workload]
    data = {
        name: value.astype(int) + (name == "county") if name in integers else value
        for name, value in run.data.items()
    }
    data |= sizes(run.data)
    begun = time.perf_counter()
    model = stan.build(
        program, data={name: np.asarray(value).tolist() for name, value in data.items()}, random_seed=run.seed
    )
    built = time.perf_counter()
    fit = model.sample(num_chains=run.chains, num_warmup=run.warmup, num_samples=run.draws, save_warmup=True)
    ended = time.perf_counter()
    total_seconds = elapsed()
    kept = {}
    for name in fit.param_names:
        values = np.moveaxis(fit[name].reshape(-1, run.warmup + run.draws, run.chains), 0, -1)
        kept[name] = np.swapaxes(values[run.warmup :], 0, 1)
    describe_run(
        run,
        kept,
        total_seconds=total_seconds,
        compile_seconds=built - begun,
        sampling_seconds=ended - built,
        leapfrogs=int(np.sum(fit["n_leapfrog__"])),
    )


if __name__ == "__main__":
    main()
