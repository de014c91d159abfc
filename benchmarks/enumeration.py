"""Compare models with discrete sites on ember, Pyro, NumPyro and PyMC + nutpie, each run in a fresh process.

Usage: ``python benchmarks/enumeration.py [--systems …] [--workloads …]``. SVI steps are timed after the first
two, with a mean-field guide; NUTS as in ``benchmarks/mcmc.py``. NumPyro and PyMC get the models with their
discrete sites summed out by hand, Pyro and ember as one writes them. The peers live in an environment of
their own (``make bench-peers``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mcmc

HERE = Path(__file__).parent / "posteriors"
SVI = {
    "ember": ["-m", "ember.compat", str(HERE / "run_svi_pyro.py")],
    "pyro": [str(HERE / "run_svi_pyro.py")],
    "numpyro": [str(HERE / "run_svi_numpyro.py")],
}
NUTS = ("ember", "pyro", "numpyro", "pymc+nutpie")
WORKLOADS = ("mixture", "hmm_50", "hmm_500", "lda")


def svi(system: str, workload: str, options: argparse.Namespace, folder: Path) -> dict[str, float] | str:
    """Take SVI steps in a fresh process; return its measurements, or why there are none."""
    output = folder / f"{system}-{workload}-svi.json"
    steps = options.slow_steps if system == "pyro" else options.steps
    python = sys.executable if system == "ember" else options.peers
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "BENCHMARK_STARTED": str(time.clock_gettime(time.CLOCK_MONOTONIC)),
    }
    if system == "ember":
        environment["EMBER_CACHE_DIR"] = str(folder / f"cache-{workload}")
    try:
        done = subprocess.run(
            [python, *SVI[system], workload, str(steps), str(output)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=options.timeout,
        )
    except subprocess.TimeoutExpired:
        return f"more than {options.timeout:.0f} s"
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["failed without a word"])[-1][:90]
    measured: dict[str, float] = json.loads(output.read_text())
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", nargs="+", default=list(NUTS), choices=list(NUTS))
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--only", choices=["svi", "nuts"], help="leave the other out")
    parser.add_argument("--steps", type=int, default=200, help="SVI steps that are timed")
    parser.add_argument("--slow-steps", type=int, default=10, help="the same for Pyro")
    parser.add_argument("--draws", type=int, default=1000, help="warmup and kept draws of each chain")
    parser.add_argument("--slow-draws", type=int, default=30, help="the same for Pyro's single chain")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for each process")
    parser.add_argument("--peers", default=".venv-peers/bin/python", help="Python of the peers' environment")
    parser.add_argument("--keep-cache", action="store_true", help="let ember use its compilation cache")
    options = parser.parse_args()
    for workload in options.workloads:
        with tempfile.TemporaryDirectory() as folder:
            if options.only != "nuts":
                print(f"{workload}, SVI\n  {'system':12s} {'first s':>9s} {'us/step':>12s} {'loss':>12s}")
                for system in options.systems:
                    if system in SVI:
                        print(step_line(system, svi(system, workload, options, Path(folder))), flush=True)
            if options.only != "svi" and workload != "lda":
                print(f"{workload}, NUTS, {options.chains} chains of {options.draws} + {options.draws}")
                print(mcmc.HEADING)
                for system in options.systems:
                    measured = mcmc.run(system, workload, options, Path(folder))
                    print(mcmc.line(system, measured), flush=True)


def step_line(system: str, measured: dict[str, float] | str) -> str:
    if isinstance(measured, str):
        return f"  {system:12s} {measured}"
    return (
        f"  {system:12s} {measured['first_seconds']:9.2f} {1e6 * measured['step_seconds']:12.1f}"
        f" {measured['loss']:12.1f}"
    )


if __name__ == "__main__":
    main()
