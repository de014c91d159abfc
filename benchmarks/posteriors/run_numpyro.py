"""Sample one benchmarked posterior with NumPyro: an XLA host device per chain, in parallel, float64."""

from __future__ import annotations

import sys
import time

import numpyro

numpyro.set_host_device_count(4)
numpyro.enable_x64()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import numpyro_models  # noqa: E402
from numpyro.infer import MCMC, NUTS  # noqa: E402
from numpyro.infer.util import initialize_model  # noqa: E402

from report import describe_run, elapsed, parse  # noqa: E402

# What XLA reports of tracing (without traces inside traces), lowering and compiling.
COMPILATION = ("jaxpr_to_mlir_module_duration", "backend_compile_duration")


def main() -> None:
    run = parse(sys.argv)
    data = {name: np.asarray(value) if np.ndim(value) else int(value) for name, value in run.data.items()}
    model = getattr(numpyro_models, run.workload)
    compiling: list[float] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event.endswith(COMPILATION):
            compiling.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    mcmc = MCMC(
        NUTS(model, dense_mass=run.dense),
        num_warmup=run.warmup,
        num_samples=run.draws,
        num_chains=run.chains,
        chain_method="parallel",
        progress_bar=False,
    )
    begun = time.perf_counter()
    mcmc.run(jax.random.PRNGKey(run.seed), **data, extra_fields=("num_steps",))
    samples = {name: np.asarray(value) for name, value in mcmc.get_samples(group_by_chain=True).items()}
    seconds, total_seconds, compile_seconds = time.perf_counter() - begun, elapsed(), sum(compiling)
    steps = int(np.sum(mcmc.get_extra_fields()["num_steps"]))
    mcmc.warmup(jax.random.PRNGKey(run.seed), **data, extra_fields=("num_steps",), collect_warmup=True)
    steps += int(np.sum(mcmc.get_extra_fields()["num_steps"]))
    describe_run(
        run,
        samples,
        total_seconds=total_seconds,
        compile_seconds=compile_seconds,
        sampling_seconds=seconds - compile_seconds,
        leapfrogs=steps,
        gradient_microseconds=time_gradient(model, data),
    )


def time_gradient(model, data, repetitions: int = 200) -> float:
    """Time gradients inside one compiled loop, so that no call from Python is in it."""
    info = initialize_model(jax.random.PRNGKey(0), model, model_kwargs=data)
    gradient = jax.value_and_grad(info.potential_fn)

    @jax.jit
    def loop(z):
        def step(_, carry):
            total, z = carry
            value, slope = gradient(z)
            return total + value, jax.tree.map(lambda a, b: a - 1e-12 * b, z, slope)

        return jax.lax.fori_loop(0, repetitions, step, (jnp.zeros(()), z))

    jax.block_until_ready(loop(info.param_info.z))
    begun = time.perf_counter()
    jax.block_until_ready(loop(info.param_info.z))
    return 1e6 * (time.perf_counter() - begun) / repetitions


if __name__ == "__main__":
    main()
