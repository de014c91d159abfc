"""Compare NUTS on ember with Pyro, NumPyro, PyMC + nutpie and PyStan, each run in a fresh process.

Usage: ``python benchmarks/mcmc.py [--systems …] [--workloads …] [--json FILE] [--cores N]``. The peers
live in an environment of their own (``make bench-peers``). Seconds are of the clock: in total from the start
of the process to the draws in memory, with imports from the start, too; sampling includes warmup. ESS is the
smallest bulk-ESS over all parameters. A gradient is timed inside a compiled loop where the system has one
(Pyro and PyMC are called from Python, PyStan offers none); microseconds per leapfrog are sampling seconds
over all chains' leapfrogs, so that they shrink with cores.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
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
# An untimed import first: bytecode is there after an installation, too.
IMPORTS = {
    "ember": "import ember.compat, ember.infer",
    "pyro": "import pyro.infer",
    "numpyro": "import numpyro.infer",
    "pymc+nutpie": "import nutpie, pymc",
    "pystan": "import stan",
}
COLUMNS = (
    # Title, width, digits, what of the measurements.
    ("total s", 9, 2, lambda m: m["total_seconds"]),
    ("import", 7, 2, lambda m: m["import_seconds"]),
    ("capture", 8, 3, lambda m: m.get("capture_seconds")),
    ("compile", 8, 2, lambda m: m.get("compile_seconds")),
    ("sampling", 9, 3, lambda m: m["sampling_seconds"]),
    ("us/gradient", 11, 2, lambda m: m.get("gradient_microseconds")),
    ("us/leapfrog", 11, 2, lambda m: 1e6 * m["sampling_seconds"] / max(m["leapfrogs"], 1)),
    ("min ESS", 8, 0, lambda m: m["ess"]),
    ("ESS/s", 10, 1, lambda m: m["ess"] / m["sampling_seconds"]),
    ("ESS/total s", 11, 1, lambda m: m["ess"] / m["total_seconds"]),
    ("R-hat", 7, 3, lambda m: m.get("rhat")),
)
HEADING = f"  {'system':12s}" + "".join(f" {title:>{width}s}" for title, width, _, _ in COLUMNS)


def execute(arguments: list[str], environment: dict[str, str], timeout: float) -> str | None:
    """Run a process to its end; return None, or why it failed. Its own processes end with it."""
    environment = {**environment, "BENCHMARK_STARTED": str(time.clock_gettime(time.CLOCK_MONOTONIC))}
    process = subprocess.Popen(
        arguments,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"more than {timeout:.0f} s"
    if process.returncode != 0:
        return (errors.strip().splitlines() or [f"ended with {process.returncode}"])[-1][:90]
    return None


def run(system: str, workload: str, options: argparse.Namespace, folder: Path) -> dict[str, float] | str:
    """Sample in a fresh process; return its measurements, or why there are none."""
    output = folder / f"{system}-{workload}.json"
    warmup, draws = (options.slow_draws,) * 2 if system == "pyro" else (options.draws,) * 2
    chains = 1 if system == "pyro" else options.chains
    python = sys.executable if system == "ember" else options.peers
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *_path()]), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    if system == "ember" and not options.keep_cache:
        environment["EMBER_CACHE_DIR"] = str(folder / f"cache-{workload}")
    try:
        failure = execute([python, "-c", IMPORTS[system]], environment, options.timeout) or execute(
            [python, *SYSTEMS[system], *map(str, (workload, warmup, draws, chains, options.seed, output))],
            environment,
            options.timeout,
        )
    except OSError as error:
        return f"cannot start {python}: {error.strerror}"
    if failure is not None:
        return failure
    measured = json.loads(output.read_text())
    with np.load(output.with_suffix(".npz")) as draws_by_name:
        dataset = arviz.convert_to_dataset({name: draws_by_name[name] for name in draws_by_name.files})
    ess = arviz.ess(dataset, method="bulk")
    measured["ess"] = float(min(np.nanmin(ess[name].values) for name in ess.data_vars))
    if chains > 1:
        rhat = arviz.rhat(dataset)
        measured["rhat"] = float(max(np.nanmax(rhat[name].values) for name in rhat.data_vars))
    return measured


def _path() -> list[str]:
    return [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]


def line(system: str, measured: dict[str, float] | str) -> str:
    if isinstance(measured, str):
        return f"  {system:12s} {measured}"
    text = f"  {system:12s}"
    for _, width, digits, value in COLUMNS:
        number = value(measured)
        text += f" {'-':>{width}s}" if number is None else f" {number:{width}.{digits}f}"
    return text


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
    parser.add_argument("--json", type=Path, help="file to write all measurements to")
    parser.add_argument("--cores", type=int, help="bind all processes to that many cores")
    parser.add_argument("--keep-cache", action="store_true", help="let ember use its compilation cache")
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    results: dict[str, dict[str, dict[str, float] | str]] = {}
    for workload in options.workloads:
        print(
            f"{workload}, {options.chains} chains of {options.draws} + {options.draws} "
            f"on {len(os.sched_getaffinity(0))} cores"
        )
        print(HEADING)
        results[workload] = {}
        with tempfile.TemporaryDirectory() as folder:
            for system in options.systems:
                results[workload][system] = measured = run(system, workload, options, Path(folder))
                print(line(system, measured), flush=True)
                if options.json is not None:
                    options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
