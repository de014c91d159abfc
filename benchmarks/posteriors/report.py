"""Read a runner's arguments and write its measurements, for every system alike."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from workloads import DENSE, DISCRETE, WORKLOADS


def elapsed() -> float:
    """Seconds since the process was started."""
    return time.clock_gettime(time.CLOCK_MONOTONIC) - float(os.environ["BENCHMARK_STARTED"])


IMPORTED = elapsed()  # runners import this module last


@dataclass(frozen=True)
class Run:
    """One process's job."""

    workload: str
    warmup: int
    draws: int
    chains: int
    seed: int
    output: Path

    @property
    def data(self) -> dict[str, np.ndarray]:
        return (WORKLOADS | DISCRETE)[self.workload]()

    @property
    def dense(self) -> bool:
        return self.workload in DENSE


def parse(argv: list[str]) -> Run:
    """Read ``workload warmup draws chains seed output``."""
    workload, warmup, draws, chains, seed, output = argv[-6:]
    return Run(workload, int(warmup), int(draws), int(chains), int(seed), Path(output))


def describe_run(run: Run, draws: dict[str, np.ndarray], **measured: float | None) -> None:
    """Write draws (chain, draw, …) by name, and the measurements."""
    chains, kept = next(iter(draws.values())).shape[:2]
    np.savez(run.output.with_suffix(".npz"), **draws)
    about = {"chains": chains, "draws": kept, "warmup": run.warmup, "import_seconds": IMPORTED}
    run.output.write_text(json.dumps({**about, **measured}))


def describe_steps(output: str, first_seconds: float, step_seconds: float, loss: float) -> None:
    """Write what was measured of a number of SVI steps."""
    measured = {"first_seconds": first_seconds, "step_seconds": step_seconds, "loss": loss}
    Path(output).write_text(json.dumps(measured))
