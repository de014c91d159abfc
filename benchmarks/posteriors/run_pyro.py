"""Sample one benchmarked posterior with Pyro, or with ember if started through ``python -m ember.compat``."""

from __future__ import annotations

import time

started = time.perf_counter()

import sys  # noqa: E402

import numpy as np  # noqa: E402
import pyro  # noqa: E402
import pyro_models  # noqa: E402
import torch  # noqa: E402
from pyro.infer import MCMC, NUTS  # noqa: E402
from pyro.infer.autoguide.initialization import init_to_median, init_to_uniform  # noqa: E402
from workloads import DISCRETE  # noqa: E402

from report import describe_run, parse  # noqa: E402

imported = time.perf_counter()


def main() -> None:
    run = parse(sys.argv)
    on_ember = "ember" in sys.modules
    data = {
        name: torch.as_tensor(value) if np.ndim(value) else int(value) for name, value in run.data.items()
    }
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    pyro.set_rng_seed(run.seed)
    leapfrogs = []
    kernel = NUTS(
        getattr(pyro_models, run.workload),
        full_mass=run.dense,
        jit_compile=not on_ember,
        ignore_jit_warnings=True,
        # Labels would switch from a start at random.
        init_strategy=init_to_median if run.workload in DISCRETE else init_to_uniform,
    )
    if not on_ember:
        count_gradients(leapfrogs)
    mcmc = MCMC(
        kernel,
        num_samples=run.draws,
        warmup_steps=run.warmup,
        num_chains=run.chains if on_ember else 1,
        disable_progbar=True,
    )
    begun = time.perf_counter()
    mcmc.run(**data)
    ended = time.perf_counter()
    total_seconds = run.elapsed()
    timing = getattr(mcmc, "timing", None) or {}
    describe_run(
        run,
        {name: value.numpy() for name, value in mcmc.get_samples(group_by_chain=True).items()},
        total_seconds=total_seconds,
        import_seconds=imported - started,
        compile_seconds=float(timing.get("capture", 0.0) + timing.get("compile", 0.0)),
        sampling_seconds=float(timing.get("sampling", ended - begun)),
        leapfrogs=int(timing.get("leapfrogs", 0)) or len(leapfrogs),
    )


def count_gradients(counts: list[None]) -> None:
    """Count Pyro's leapfrog steps by its own integrator."""
    import pyro.infer.mcmc.nuts as module

    original = module.velocity_verlet

    def counted(*args, **kwargs):
        counts.append(None)
        return original(*args, **kwargs)

    module.velocity_verlet = counted


if __name__ == "__main__":
    main()
