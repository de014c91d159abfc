"""Compare NUTS on ember with Pyro, NumPyro, PyMC + nutpie and PyStan, each run in a fresh process.

Usage: ``python benchmarks/mcmc.py [--systems …] [--workloads …]``. The peers live in an environment of
their own (``make bench-peers``). Sampling seconds include warmup; ESS is the smallest bulk-ESS
over all parameters.
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

import arviz
import numpy as np

HERE = Path(__file__).parent / "posteriors"
sys.path.insert(0, str(HERE))

from workloads import WORKLOADS  # noqa: E402

SYSTEMS = {
    "ember": ["-m", "ember.compat", str(HERE / "run_pyro.py")],
    "pyro": [str(HERE / "run_pyro.py")],
    "numpyro": [str(HERE / "run_numpyro.py")],
    "pymc+nutpie": [str(HERE / "run_pymc.py")],
    "pystan": [str(HERE / "run_stan.py")],
}
HEADING = (
    f"  {'system':12s} {'total s':>9s} {'import':>7s} {'compile':>8s} {'sampling':>9s}"
    f" {'us/leapfrog':>11s} {'min ESS':>8s} {'ESS/s':>11s} {'ESS/total s':>11s} {'R-hat':>7s}"
)


def run(system: str, workload: str, options: argparse.Namespace, folder: Path) -> dict[str, float] | str:
    """Sample in a fresh process; return its measurements, or why there are none."""
    output = folder / f"{system}-{workload}.json"
    warmup, draws = (options.slow_draws,) * 2 if system == "pyro" else (options.draws,) * 2
    chains = 1 if system == "pyro" else options.chains
    python = sys.executable if system == "ember" else options.peers
    arguments = [workload, warmup, draws, chains, options.seed, output]
    environment = {
        **os.environ,
        "BENCHMARK_STARTED": str(time.clock_gettime(time.CLOCK_MONOTONIC)),
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    if system == "ember" and not options.keep_cache:
        environment["EMBER_CACHE_DIR"] = str(folder / f"cache-{workload}")
    try:
        done = subprocess.run(
            [python, *SYSTEMS[system], *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=options.timeout,
        )
    except subprocess.TimeoutExpired:
        return f"more than {options.timeout:.0f} s"
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["failed without a word"])[-1][:90]
    measured = json.loads(output.read_text())
    with np.load(output.with_suffix(".npz")) as draws_by_name:
        dataset = arviz.convert_to_dataset({name: draws_by_name[name] for name in draws_by_name.files})
    ess = arviz.ess(dataset, method="bulk")
    measured["ess"] = float(min(np.nanmin(ess[name].values) for name in ess.data_vars))
    if chains > 1:
        rhat = arviz.rhat(dataset)
        measured["rhat"] = float(max(np.nanmax(rhat[name].values) for name in rhat.data_vars))
    return measured


def line(system: str, measured: dict[str, float] | str) -> str:
    if isinstance(measured, str):
        return f"  {system:12s} {measured}"
    sampling, total, ess = measured["sampling_seconds"], measured["total_seconds"], measured["ess"]
    leapfrog = 1e6 * sampling / measured["leapfrogs"] if measured["leapfrogs"] else float("nan")
    seconds = (total, measured["import_seconds"], measured["compile_seconds"], sampling)
    rhat = measured.get("rhat", float("nan"))
    return (
        f"  {system:12s} {seconds[0]:9.2f} {seconds[1]:7.2f} {seconds[2]:8.2f} {seconds[3]:9.3f}"
        f" {leapfrog:11.2f} {ess:8.0f} {ess / sampling:11.1f} {ess / total:11.1f} {rhat:7.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--draws", type=int, default=1000, help="warmup and kept draws of each chain")
    parser.add_argument("--slow-draws", type=int, default=100, help="the same for Pyro's single chain")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for each process")
    parser.add_argument("--peers", default=".venv-peers/bin/python", help="Python of the peers' environment")
    parser.add_argument("--keep-cache", action="store_true", help="let ember use its compilation cache")
    options = parser.parse_args()
    for workload in options.workloads:
        print(f"{workload}, {options.chains} chains of {options.draws} + {options.draws}")
        print(HEADING)
        with tempfile.TemporaryDirectory() as folder:
            for system in options.systems:
                print(line(system, run(system, workload, options, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
