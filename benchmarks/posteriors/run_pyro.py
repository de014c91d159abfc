"""Sample one benchmarked posterior with Pyro, or with ember if started through ``python -m ember.compat``."""

from __future__ import annotations

import sys
import time

import numpy as np
import pyro
import pyro_models
import torch
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_median, init_to_uniform
from workloads import DISCRETE

from report import describe_run, elapsed, parse


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
    total_seconds = elapsed()
    timing = getattr(mcmc, "timing", None) or {}
    describe_run(
        run,
        {name: value.numpy() for name, value in mcmc.get_samples(group_by_chain=True).items()},
        total_seconds=total_seconds,
        capture_seconds=timing.get("capture"),
        compile_seconds=timing.get("compile"),
        sampling_seconds=float(timing.get("sampling", ended - begun)),
        leapfrogs=int(timing.get("leapfrogs", 0)) or len(leapfrogs),
        gradient_microseconds=(time_native_gradient if on_ember else time_gradient)(kernel.model, data),
    )


def time_gradient(model, data, repetitions: int = 50) -> float:
    """Time Pyro's gradients of the potential, traced by its JIT."""
    from pyro.infer.mcmc.util import initialize_model
    from pyro.ops.integrator import potential_grad

    z, potential, _, _ = initialize_model(model, model_kwargs=data, jit_compile=True, skip_jit_warnings=True)
    for _ in range(5):
        potential_grad(potential, z)
    begun = time.perf_counter()
    for _ in range(repetitions):
        potential_grad(potential, z)
    return 1e6 * (time.perf_counter() - begun) / repetitions


def time_native_gradient(model, data, repetitions: int = 200) -> float:
    """Time ember's gradients inside one compiled loop, so that no call from Python is in it."""
    from ember import engine
    from ember.engine.passes.simplify import simplify
    from ember.model.density import Density

    density = Density(model, (), data, seed=0)

    def loop(z, *inputs):
        def step(carry, _):
            total, z = carry
            value, slope = density.value_and_gradient(z, inputs)
            return (total + value, z + 1e-12 * slope), None

        with torch.no_grad():
            return engine.scan(step, (torch.zeros((), dtype=torch.float64), z), length=repetitions)[0]

    z = torch.full((density.size,), 0.1, dtype=torch.float64)
    compiled = engine.compile(simplify(engine.capture(loop, z, *density.inputs, closed_over="constant")))
    compiled(z, *density.inputs)
    begun = time.perf_counter()
    compiled(z, *density.inputs)
    return 1e6 * (time.perf_counter() - begun) / repetitions


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
