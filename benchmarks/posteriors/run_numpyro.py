"""Sample one benchmarked posterior with NumPyro: an XLA host device per chain, in parallel, float64."""

from __future__ import annotations

import time

started = time.perf_counter()

import sys  # noqa: E402

import numpyro  # noqa: E402

numpyro.set_host_device_count(4)
numpyro.enable_x64()

import jax  # noqa: E402
import numpy as np  # noqa: E402
import numpyro_models  # noqa: E402
from numpyro.infer import MCMC, NUTS, init_to_median, init_to_uniform  # noqa: E402
from workloads import DISCRETE  # noqa: E402

from report import describe_run, parse  # noqa: E402

imported = time.perf_counter()


def main() -> None:
    run = parse(sys.argv)
    data = {name: np.asarray(value) if np.ndim(value) else int(value) for name, value in run.data.items()}
    # Labels would switch from a start at random.
    start = init_to_median if run.workload in DISCRETE else init_to_uniform
    kernel = NUTS(getattr(numpyro_models, run.workload), dense_mass=run.dense, init_strategy=start)
    mcmc = MCMC(
        kernel,
        num_warmup=run.warmup,
        num_samples=run.draws,
        num_chains=run.chains,
        chain_method="parallel",
        progress_bar=False,
    )
    begun = time.perf_counter()
    mcmc.run(jax.random.PRNGKey(run.seed), **data, extra_fields=("num_steps",))
    samples = {name: np.asarray(value) for name, value in mcmc.get_samples(group_by_chain=True).items()}
    first_seconds, total_seconds = time.perf_counter() - begun, run.elapsed()
    steps = int(np.sum(mcmc.get_extra_fields()["num_steps"]))
    # The same run again, now that everything is compiled.
    begun = time.perf_counter()
    mcmc.run(jax.random.PRNGKey(run.seed), **data, extra_fields=("num_steps",))
    jax.block_until_ready(mcmc.get_samples())
    sampling_seconds = time.perf_counter() - begun
    mcmc.warmup(jax.random.PRNGKey(run.seed), **data, extra_fields=("num_steps",), collect_warmup=True)
    steps += int(np.sum(mcmc.get_extra_fields()["num_steps"]))
    describe_run(
        run,
        samples,
        total_seconds=total_seconds,
        import_seconds=imported - started,
        compile_seconds=max(0.0, first_seconds - sampling_seconds),
        sampling_seconds=sampling_seconds,
        leapfrogs=steps,
    )


if __name__ == "__main__":
    main()
