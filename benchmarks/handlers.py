"""Measure the language and its handlers beside Pyro: traces, an SVI step, an eager gradient, the import.

Run `make bench`, or `python benchmarks/handlers.py --peer .venv-peers/bin/python`. Both libraries run the
same model code, each in a process of its own; repetitions alternate, so that a change in the machine's speed
meets both, and the table shows medians. What counts is processor time, so that other load does not, without
the garbage collector, as in ``timeit``: its rare full passes fall on whichever call is under way.

Contract (`--check` makes it the exit code): with validation off ember is at least twice as fast as Pyro, with
validation on not slower, the cost grows linearly with the number of sites, and `import ember` adds at most
0.3 s to `import torch`.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

SITES = (10, 100, 1000)
TASKS = [f"trace, {n} sites" for n in SITES] + ["SVI step", "gradient"]
SECONDS = 0.2  # of each repetition

IMPORT_TIME = """
import time, torch, torch.distributions
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


def build(library: str, task: str, validate: bool) -> Callable[[], object]:
    """Return the function to be timed, with everything prepared that is not part of the measurement."""
    import torch

    ppl = importlib.import_module(library)
    dist = ppl.distributions
    ppl.set_rng_seed(0)
    ppl.clear_param_store()
    if task.startswith("trace"):
        count = int(task.split()[1])
        zero, one = torch.zeros(()), torch.ones(())

        def chain():
            x = zero
            for i in range(count):
                x = ppl.sample(f"x{i}", dist.Normal(x, one))
            return x

        return lambda: ppl.poutine.trace(chain).get_trace().log_prob_sum()

    infer = importlib.import_module(f"{library}.infer")
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def schools(sigma, y):
        mu = ppl.sample("mu", dist.Normal(0.0, 5.0))
        tau = ppl.sample("tau", dist.HalfCauchy(5.0))
        with ppl.plate("schools", 8):
            eta = ppl.sample("eta", dist.Normal(0.0, 1.0))
            ppl.sample("y", dist.Normal(mu + tau * eta, sigma), obs=y)

    if task == "SVI step":
        guide = importlib.import_module(f"{library}.infer.autoguide").AutoNormal(schools)
        optimiser = importlib.import_module(f"{library}.optim").Adam({"lr": 0.001})
        svi = infer.SVI(schools, guide, optimiser, infer.Trace_ELBO())
        return lambda: svi.step(sigma, y)
    if library == "ember":
        density = importlib.import_module("ember.model.density").Density(
            schools, (sigma, y), validate=validate
        )
        z = torch.zeros(density.size, dtype=torch.float64)
        return lambda: density.value_and_gradient(z)
    util = importlib.import_module("pyro.infer.mcmc.util")
    initial, potential, _, _ = util.initialize_model(schools, model_args=(sigma, y))

    def gradient():
        z = {name: value.detach().requires_grad_(True) for name, value in initial.items()}
        value = potential(z)
        return value, torch.autograd.grad(value, list(z.values()))

    return gradient


def work(library: str) -> None:
    """Answer requests on standard input: run a task for a while, say how many µs a call took."""
    import torch

    torch.set_num_threads(1)
    ppl = importlib.import_module(library)
    built: dict[tuple[str, bool], Callable[[], object]] = {}
    for line in sys.stdin:
        task, validate = json.loads(line)
        ppl.enable_validation(validate)
        if (task, validate) not in built:
            built[task, validate] = build(library, task, validate)
            built[task, validate]()
        function, calls = built[task, validate], 0
        gc.collect()
        gc.disable()
        start = time.process_time()
        while True:
            function()
            calls += 1
            elapsed = time.process_time() - start
            if elapsed > SECONDS:
                break
        gc.enable()
        print(json.dumps(elapsed / calls * 1e6), flush=True)


class Worker:
    """A process that measures one library."""

    def __init__(self, python: str, library: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [python, os.path.abspath(__file__), "--worker", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def measure(self, task: str, validate: bool) -> float:
        """Return µs per call of one repetition."""
        self.process.stdin.write(json.dumps([task, validate]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the worker ended while measuring {task!r}")
        return json.loads(answer)

    def close(self) -> None:
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()


def import_seconds(python: str, module: str) -> float:
    """Return how long importing a module takes when torch is loaded already: the least of five processes."""
    command = [python, "-W", "ignore", "-c", IMPORT_TIME.format(module=module)]
    times = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(5)]
    return min(map(float, times))


def main() -> int:
    """Print the table; return 1 if the contract was to be checked and does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--peer", metavar="PYTHON", help="python of the environment that has pyro-ppl")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--check", action="store_true", help="fail if the contract does not hold")
    parser.add_argument("--worker", metavar="LIBRARY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return 0

    workers = {"ember": Worker(sys.executable, "ember")}
    if options.peer:
        workers["pyro"] = Worker(options.peer, "pyro")
    times: dict[tuple[str, bool, str], list[float]] = {}
    for _ in range(options.repetitions):
        for task in options.tasks:
            for validate in (False, True):
                for library, worker in workers.items():
                    times.setdefault((task, validate, library), []).append(worker.measure(task, validate))
    for worker in workers.values():
        worker.close()

    broken = []
    median = {key: statistics.median(values) for key, values in times.items()}
    print(
        f"{'median µs per call':<20}{'validation':>12}{'ember':>12}{'pyro':>12}"
        f"{'pyro/ember':>12}{'wanted':>9}"
    )
    for task in options.tasks:
        for validate in (False, True):
            ours, theirs = median[task, validate, "ember"], median.get((task, validate, "pyro"))
            wanted = 1.0 if validate else 2.0
            row = f"{task:<20}{'on' if validate else 'off':>12}{ours:>12,.0f}"
            if theirs is not None:
                row += f"{theirs:>12,.0f}{theirs / ours:>12.2f}{wanted:>9.1f}"
                if theirs / ours < wanted:
                    broken.append(f"{task}, validation {'on' if validate else 'off'}: {theirs / ours:.2f}")
            print(row)

    if set(TASKS[:3]) <= set(options.tasks):
        small, large = (median[f"trace, {n} sites", False, "ember"] / n for n in SITES[1:])
        print(f"\nµs per site at {SITES[1]} and {SITES[2]} sites: {small:.1f}, {large:.1f}")
        if large > 1.3 * small:
            broken.append("the cost of a trace grows faster than the number of sites")
    seconds = import_seconds(sys.executable, "ember")
    print(f"import ember, beyond torch: {seconds:.2f} s")
    if options.peer:
        print(f"import pyro, beyond torch: {import_seconds(options.peer, 'pyro'):.2f} s")
    if seconds > 0.3:
        broken.append(f"import ember takes {seconds:.2f} s beyond torch")
    for each in broken:
        print("not reached:", each)
    return 1 if broken and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
