"""Time gradients of posteriors as machine code against eager torch, and what their compilation takes.

Run ``python benchmarks/engine.py [name ...]``. Times of a gradient are the best of several repetitions
inside one native loop, so that they do not contain the call from Python; eager times are of the same function
in this process.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Bernoulli, HalfCauchy, HalfNormal, MultivariateNormal, Normal

from ember.engine import control
from ember.engine.capture import capture
from ember.engine.compile import compile
from ember.engine.simplify import simplify


@dataclass(frozen=True)
class Workload:
    """A log density of an unconstrained vector and data."""

    density: Callable[..., Tensor]
    dimension: int
    data: tuple[Tensor, ...]


def eight_schools() -> Workload:
    """Non-centred hierarchical model of eight effects."""
    y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=torch.float64)
    sigma = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.float64)

    def density(z: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        mu, log_tau, theta = z[0], z[1], z[2:]
        tau = log_tau.exp()
        prior = Normal(0.0, 5.0).log_prob(mu) + HalfCauchy(5.0).log_prob(tau) + log_tau
        return (
            prior + Normal(0.0, 1.0).log_prob(theta).sum() + Normal(mu + tau * theta, sigma).log_prob(y).sum()
        )

    return Workload(density, 10, (y, sigma))


def radon() -> Workload:
    """Varying intercepts and slopes for 85 counties, 919 observations."""
    county = torch.randint(0, 85, (919,)).sort().values
    x, y = torch.randn(919, dtype=torch.float64), torch.randn(919, dtype=torch.float64)

    def density(z: Tensor, x: Tensor, y: Tensor, county: Tensor) -> Tensor:
        means, scales, noise = z[170:172], z[172:174].exp(), z[174].exp()
        intercepts, slopes = means[0] + scales[0] * z[:85], means[1] + scales[1] * z[85:170]
        prior = Normal(0.0, 1.0).log_prob(z[:170]).sum() + Normal(0.0, 5.0).log_prob(means).sum()
        prior = (
            prior + HalfNormal(1.0).log_prob(scales).sum() + HalfNormal(1.0).log_prob(noise) + z[172:].sum()
        )
        return prior + Normal(intercepts[county] + slopes[county] * x, noise).log_prob(y).sum()

    return Workload(density, 175, (x, y, county))


def logistic(rows: int, columns: int) -> Workload:
    """Logistic regression."""
    x = torch.randn(rows, columns, dtype=torch.float64)
    y = (torch.rand(rows) < 0.5).double()

    def density(z: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return Bernoulli(logits=x @ z).log_prob(y).sum() + Normal(0.0, 1.0).log_prob(z).sum()

    return Workload(density, columns, (x, y))


def item_response() -> Workload:
    """Two-parameter logistic model, 20 items and 200 persons."""
    answers = (torch.rand(200, 20) < 0.5).double()

    def density(z: Tensor, answers: Tensor) -> Tensor:
        ability, difficulty, discrimination = z[:200], z[200:220], z[220:240].exp()
        logits = discrimination * (ability.unsqueeze(1) - difficulty)
        return Bernoulli(logits=logits).log_prob(answers).sum() + Normal(0.0, 1.0).log_prob(z).sum()

    return Workload(density, 240, (answers,))


def stochastic_volatility() -> Workload:
    """Autoregressive log volatility over 1,000 steps, as a scan."""
    returns = torch.randn(1000, dtype=torch.float64)

    def density(z: Tensor, returns: Tensor) -> Tensor:
        level, persistence, scale = z[1000], torch.tanh(z[1001]), z[1002].exp()

        def step(h: Tensor, each: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            innovation, observed = each
            h = level + persistence * (h - level) + scale * innovation
            return h, Normal(0.0, torch.exp(0.5 * h)).log_prob(observed)

        _, terms = control.scan(step, level, (z[:1000], returns))
        return terms.sum() + Normal(0.0, 1.0).log_prob(z).sum()

    return Workload(density, 1003, (returns,))


def gaussian_process() -> Workload:
    """Regression with a squared exponential kernel, 200 points."""
    x = torch.linspace(0, 10, 200, dtype=torch.float64)
    y = torch.sin(x) + 0.1 * torch.randn(200, dtype=torch.float64)

    def density(z: Tensor, x: Tensor, y: Tensor) -> Tensor:
        length, amplitude, noise = z.exp()
        distance = (x.unsqueeze(1) - x).square()
        kernel = amplitude.square() * torch.exp(-0.5 * distance / length.square())
        kernel = kernel + (noise.square() + 1e-6) * torch.eye(200, dtype=torch.float64)
        return (
            MultivariateNormal(torch.zeros_like(y), kernel).log_prob(y) + Normal(0.0, 1.0).log_prob(z).sum()
        )

    return Workload(density, 3, (x, y))


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "eight schools": eight_schools,
    "radon 919/85": radon,
    "logistic 10,000 x 50": lambda: logistic(10_000, 50),
    "logistic 100,000 x 20": lambda: logistic(100_000, 20),
    "IRT 200 x 20": item_response,
    "stochastic volatility 1,000": stochastic_volatility,
    "GP 200": gaussian_process,
}


WIDTHS = (6, 9, 9, 12, 12, 9)


def value_and_gradient(density: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return z, data → log density and gradient."""

    def function(z: Tensor, *data: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = density(z, *data)
            (gradient,) = torch.autograd.grad(value, z)
        return value.detach(), gradient

    return function


def repeated(function: Callable[..., tuple[Tensor, Tensor]], steps: int) -> Callable[..., Tensor]:
    """Return a function that follows the gradient for a number of tiny steps, in one native loop."""

    def loop(z: Tensor, *data: Tensor) -> Tensor:
        def body(carry: Tensor, _: None) -> tuple[Tensor, Tensor]:
            value, gradient = function(carry, *data)
            return carry + 1e-12 * gradient, value

        return control.scan(body, z, length=steps)[1].sum()

    return loop


def best(call: Callable[[], object], repetitions: int = 5) -> float:
    """Return the seconds of the fastest repetition."""
    fastest = math.inf
    for _ in range(repetitions):
        started = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


def measure(name: str) -> None:
    """Print one line of the table."""
    torch.manual_seed(0)
    workload = WORKLOADS[name]()
    z = 0.1 * torch.randn(workload.dimension, dtype=torch.float64)
    function = value_and_gradient(workload.density)
    started = time.perf_counter()
    program = simplify(capture(function, z, *workload.data))
    captured = time.perf_counter()
    compiled = compile(program, use_disk=False)
    finished = time.perf_counter()
    found, expected = compiled(z, *workload.data), function(z, *workload.data)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    eager = best(lambda: function(z, *workload.data), 5)
    guess = best(lambda: compiled(z, *workload.data), 5)
    steps = max(2, min(20_000, int(0.05 / guess)))
    loop = compile(simplify(capture(repeated(function, steps), z, *workload.data)), use_disk=False)
    native = best(loop.bind(z, *workload.data).run) / steps
    print(
        f"{name:28s} {program.num_operations():6d} {captured - started:9.3f} {finished - captured:9.3f} "
        f"{native * 1e6:12.3f} {eager * 1e6:12.1f} {eager / native:9.0f}"
    )


def main() -> None:
    """Measure the workloads named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of workloads")
    names = parser.parse_args().names
    torch.distributions.Distribution.set_default_validate_args(False)
    print(
        f"{'':28s} {'ops':>6s} {'capture s':>9s} {'compile s':>9s} "
        f"{'native us':>12s} {'eager us':>12s} {'ratio':>9s}"
    )
    for name in WORKLOADS:
        if not names or any(each in name for each in names):
            measure(name)


if __name__ == "__main__":
    main()
