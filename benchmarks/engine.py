"""Time gradients of posteriors as machine code against eager torch, and what their compilation takes.

Run ``python benchmarks/engine.py [part of a name ...]``. The models are those of ``benchmarks/mcmc.py``, and
some that write their recursions as users do. A gradient's time is the least processor time of several
repetitions inside one native loop, so that it does not contain the call from Python; eager times are of the
same function in this process.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ember
import ember.compat
import ember.distributions as dist
from ember.engine import control
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.passes.simplify import simplify
from ember.engine.policy import compact_inputs
from ember.model.density import Density

sys.path.insert(0, str(Path(__file__).parent / "posteriors"))
ember.compat.install()

import pyro_models  # noqa: E402
import workloads  # noqa: E402


def volatility_as_loop(y: Tensor) -> None:
    """Autoregressive log volatility in a Python loop, which capture unrolls."""
    mu = ember.sample("mu", dist.Normal(0.0, 5.0))
    phi = ember.sample("phi", dist.Uniform(-1.0, 1.0))
    sigma = ember.sample("sigma", dist.HalfCauchy(2.0))
    with ember.plate("innovations", len(y)):
        noise = ember.sample("noise", dist.Normal(0.0, 1.0))
    h = [mu + sigma * noise[0] / torch.sqrt(1 - phi**2)]
    for each in noise[1:]:
        h.append(mu + phi * (h[-1] - mu) + sigma * each)
    with ember.plate("days", len(y)):
        ember.sample("y", dist.Normal(0.0, torch.exp(torch.stack(h) / 2)), obs=y)


def volatility_as_cumsum(y: Tensor) -> None:
    """Random walk of the log volatility."""
    mu = ember.sample("mu", dist.Normal(0.0, 5.0))
    sigma = ember.sample("sigma", dist.HalfCauchy(2.0))
    with ember.plate("innovations", len(y)):
        noise = ember.sample("noise", dist.Normal(0.0, 1.0))
    h = mu + sigma * noise.cumsum(-1)
    with ember.plate("days", len(y)):
        ember.sample("y", dist.Normal(0.0, torch.exp(h / 2)), obs=y)


def many_operations(x: Tensor, y: Tensor, links: int) -> None:
    """A chain of small operations that no loop shortens."""
    w = ember.sample("w", dist.Normal(torch.zeros(8), 1.0).to_event(1))
    for link in range(links):
        w = torch.tanh(w * x[link % len(x)] + w.sum() / (link + 2))
    ember.sample("y", dist.Normal(w, 1.0).to_event(1), obs=y)


def small_data(links: int) -> dict[str, Any]:
    """Make the data of :func:`many_operations`."""
    generator = torch.Generator().manual_seed(0)
    return {"x": torch.randn(5, 8, generator=generator), "y": torch.zeros(8), "links": links}


MODELS: dict[str, tuple[Callable[..., None], Callable[[], dict[str, Any]]]] = {
    **{name: (getattr(pyro_models, name), make) for name, make in workloads.WORKLOADS.items()},
    "volatility_as_loop": (volatility_as_loop, workloads.stochastic_volatility),
    "volatility_as_cumsum": (volatility_as_cumsum, workloads.stochastic_volatility),
    "operations_500": (many_operations, lambda: small_data(45)),
    "operations_10000": (many_operations, lambda: small_data(900)),
}


def density_of(name: str) -> Density:
    """Return the log density of a workload."""
    model, make = MODELS[name]
    data = {key: torch.as_tensor(each) for key, each in make().items()}
    return Density(model, kwargs={key: int(each) if each.ndim == 0 else each for key, each in data.items()})


def repeated(function: Callable[..., tuple[Tensor, Tensor]], steps: int) -> Callable[..., Tensor]:
    """Return a function that follows the gradient for a number of tiny steps, in one native loop."""

    def loop(z: Tensor, *data: Tensor) -> Tensor:
        def body(carry: Tensor, _: None) -> tuple[Tensor, Tensor]:
            value, gradient = function(carry, *data)
            return carry + 1e-12 * gradient, value

        return control.scan(body, z, length=steps)[1].sum()

    return loop


def best(call: Callable[[], object], repetitions: int = 5) -> float:
    """Return the processor seconds of the fastest repetition."""
    fastest = math.inf
    for _ in range(repetitions):
        started = time.thread_time()
        call()
        fastest = min(fastest, time.thread_time() - started)
    return fastest


def measure(name: str) -> None:
    """Print one line of the table."""
    density = density_of(name)
    z = 0.1 * torch.randn(density.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = (z, *density.inputs)

    def function(z: Tensor, *data: Tensor) -> tuple[Tensor, Tensor]:
        return density.value_and_gradient(z, data)

    started = time.process_time()
    captured = capture(function, *inputs)
    recorded = time.process_time()
    program = simplify(captured)
    simplified = time.process_time()
    compact = compact_inputs(inputs, 1)
    compiled = compile(program, compact=compact, use_disk=False)
    finished = time.process_time()
    for one, other in zip(compiled(*inputs), function(*inputs), strict=True):
        exact = 1e-4 if compact else 1e-8
        torch.testing.assert_close(one, other, rtol=exact, atol=exact)
    eager = best(lambda: function(*inputs), 5)
    guess = best(lambda: compiled(*inputs), 5)
    steps = max(2, min(20_000, int(0.05 / max(guess, 1e-6))))
    repeating = simplify(capture(repeated(function, steps), *inputs))
    loop = compile(repeating, compact=compact, use_disk=False)
    native = best(loop.bind(*inputs).run, 8) / steps
    print(
        f"{name:24s} {density.size:5d} {program.num_operations():6d} {recorded - started:9.3f} "
        f"{simplified - recorded:9.3f} {finished - simplified:9.3f} "
        f"{native * 1e6:12.3f} {eager * 1e6:12.1f} {eager / native:8.0f}",
        flush=True,
    )


def main() -> None:
    """Measure the workloads named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of workloads")
    parser.add_argument("--float32", action="store_true", help="keep large data as float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ember.settings.set(validate_distributions_torch=False, validate_distributions_pyro=False)
    ember.settings.set(data_storage="float32" if options.float32 else "float64")
    print(
        f"{'':24s} {'dim':>5s} {'ops':>6s} {'capture s':>9s} {'simplify':>9s} {'compile s':>9s} "
        f"{'native us':>12s} {'eager us':>12s} {'ratio':>8s}"
    )
    for name in MODELS:
        if not options.names or any(each in name for each in options.names):
            measure(name)


if __name__ == "__main__":
    main()
