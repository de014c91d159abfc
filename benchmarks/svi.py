"""Compare training by SVI on ember with Pyro, NumPyro, and a loop written by hand, a fresh process each.

Usage: ``python benchmarks/svi.py [--systems …] [--workloads …]``. The peers live in an environment of their
own (``make bench-peers``). ``total`` runs from the start of the process to the last step, compilation
included; ``us/step`` is measured after that.
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

HERE = Path(__file__).parent / "training"
FOLDERS = [str(HERE), str(HERE.parent / "posteriors")]
sys.path[:0] = FOLDERS

from jobs import WORKLOADS  # noqa: E402

SYSTEMS = {
    "ember": ["-m", "ember.compat", str(HERE / "train_pyro.py")],
    "ember eager": ["-m", "ember.compat", str(HERE / "train_pyro.py")],
    "ember inductor": ["-m", "ember.compat", str(HERE / "train_pyro.py")],
    "ember native": ["-m", "ember.compat", str(HERE / "train_pyro.py")],
    "torch": [str(HERE / "train_torch.py")],
    "pyro": [str(HERE / "train_pyro.py")],
    "numpyro": [str(HERE / "train_numpyro.py")],
}
COMPARED = ["ember", "torch", "pyro", "numpyro"]
STEPS = {"eight_schools": 5000, "radon": 5000, "mean_field": 1000, "vae": 200}
SLOW = {"eight_schools": 500, "radon": 300, "mean_field": 300, "vae": 100}  # of Pyro, step by step


def run(system: str, workload: str, options: argparse.Namespace, folder: Path) -> dict[str, float] | str:
    """Train in a fresh process; return its measurements, or why there are none."""
    steps = (SLOW if system == "pyro" else STEPS)[workload]
    environment = {
        **os.environ,
        "BENCHMARK_STARTED": str(time.clock_gettime(time.CLOCK_MONOTONIC)),
        "PYTHONPATH": os.pathsep.join(
            [str(HERE), str(HERE.parent / "posteriors"), os.environ.get("PYTHONPATH", "")]
        ),
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        "EMBER_CACHE_DIR": str(folder / f"cache-{system}-{workload}"),
        "BENCHMARK_EXECUTION": system.partition(" ")[2] or "auto",
    }
    python = sys.executable if system.startswith(("ember", "torch")) else options.peers
    try:
        done = subprocess.run(
            [python, *SYSTEMS[system], workload, str(steps)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=options.timeout,
            preexec_fn=_on_one_core,
        )
    except subprocess.TimeoutExpired:
        return f"more than {options.timeout:.0f} s"
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["failed without a word"])[-1][:90]
    return {"steps": steps, **json.loads(done.stdout.strip().splitlines()[-1])}


def _on_one_core() -> None:
    """Keep the process on one core; XLA uses others, too, whatever its flags say."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--systems", nargs="+", default=["ember", "torch", "pyro", "numpyro"], choices=list(SYSTEMS)
    )
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for each process")
    parser.add_argument("--peers", default=".venv-peers/bin/python", help="Python of the peers' environment")
    options = parser.parse_args()
    for workload in options.workloads:
        print(workload)
        print(f"  {'system':14s} {'steps':>6s} {'total s':>8s} {'import':>7s} {'us/step':>10s} {'loss':>11s}")
        with tempfile.TemporaryDirectory() as folder:
            for system in options.systems:
                if system == "torch" and workload != "vae":
                    continue
                found = run(system, workload, options, Path(folder))
                if isinstance(found, str):
                    print(f"  {system:14s} {found}", flush=True)
                    continue
                print(
                    f"  {system:14s} {found['steps']:6.0f} {found['total']:8.2f} {found['import']:7.2f}"
                    f" {found['step']:10.1f} {found['loss']:11.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
