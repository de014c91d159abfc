"""Say what is trained, the same for every system: data, rates, and numbers of steps."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "posteriors"))

from workloads import WORKLOADS as POSTERIORS

PIXELS, BATCH, IMAGES = 784, 256, 2048


def mean_field() -> dict[str, np.ndarray]:
    """Noisy observations of 50,000 latent numbers: a guide of 100,000 parameters."""
    return {"y": np.random.default_rng(0).normal(size=50_000)}


def vae() -> dict[str, np.ndarray]:
    """Binary images of 784 pixels in smooth blobs."""
    generator = np.random.default_rng(1)
    rows, columns = np.divmod(np.arange(PIXELS), 28)
    centre = generator.uniform(6, 22, size=(IMAGES, 2, 1))
    distance = (rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2
    return {"x": (generator.random((IMAGES, PIXELS)) < np.exp(-distance / 40)).astype(float)}


WORKLOADS = {
    "eight_schools": POSTERIORS["eight_schools"],
    "radon": POSTERIORS["radon"],
    "mean_field": mean_field,
    "vae": vae,
}


@dataclass(frozen=True)
class Job:
    """One process's job."""

    workload: str
    steps: int
    rate: float = 0.01

    @classmethod
    def of(cls, argv: list[str]) -> Job:
        """Read ``workload steps`` from the end of a command line."""
        return cls(argv[-2], int(argv[-1]), 0.001 if argv[-2] == "vae" else 0.01)

    @property
    def data(self) -> dict[str, np.ndarray]:
        return WORKLOADS[self.workload]()

    @staticmethod
    def dtype(value: np.ndarray) -> type:
        """Floats in single precision, as all systems train by default."""
        return np.float32 if np.asarray(value).dtype == np.float64 else np.int64


def batches(x):
    """Cut images into an epoch's batches."""
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]
