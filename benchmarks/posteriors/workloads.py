"""Make the data of the benchmarked posteriors, the same for every system."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RADON = Path(__file__).parents[2] / "src" / "ember" / "examples" / "data" / "radon_mn.json"


def eight_schools() -> dict[str, np.ndarray]:
    """Rubin's eight schools: estimated effects and their standard errors."""
    return {
        "y": np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
        "sigma": np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
    }


def radon() -> dict[str, np.ndarray]:
    """Log radon of 919 homes in 85 counties."""
    data = json.loads(RADON.read_text())
    return {
        "county": np.array(data["county_idx"]) - 1,
        "floor": np.array(data["floor_measure"], dtype=float),
        "y": np.array(data["log_radon"], dtype=float),
        "counties": np.array(data["J"]),
    }


def _logistic(rows: int, columns: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, columns))
    beta = generator.normal(size=columns) * 0.5
    probability = 1 / (1 + np.exp(-(x @ beta)))
    return {"x": x, "y": (generator.random(rows) < probability).astype(float)}


def logistic_10k() -> dict[str, np.ndarray]:
    """Logistic regression, 10,000 rows and 50 columns."""
    return _logistic(10_000, 50)


def logistic_100k() -> dict[str, np.ndarray]:
    """Logistic regression, 100,000 rows and 20 columns."""
    return _logistic(100_000, 20)


def irt() -> dict[str, np.ndarray]:
    """Two-parameter item response theory: 20 items, 200 persons."""
    generator = np.random.default_rng(1)
    ability = generator.normal(size=200)
    difficulty = generator.normal(size=20)
    discrimination = np.exp(0.3 * generator.normal(size=20))
    logits = discrimination[:, None] * (ability[None, :] - difficulty[:, None])
    return {"y": (generator.random((20, 200)) < 1 / (1 + np.exp(-logits))).astype(float)}


def stochastic_volatility() -> dict[str, np.ndarray]:
    """Returns over 1,000 days with autoregressive log volatility."""
    generator = np.random.default_rng(2)
    h = np.empty(1000)
    h[0] = -1.0 + 0.2 * generator.normal()
    for t in range(1, 1000):
        h[t] = -1.0 + 0.95 * (h[t - 1] + 1.0) + 0.2 * generator.normal()
    return {"y": np.exp(h / 2) * generator.normal(size=1000)}


def gaussian_process() -> dict[str, np.ndarray]:
    """Noisy observations of a smooth function at 200 points."""
    generator = np.random.default_rng(3)
    x = np.sort(generator.uniform(-3, 3, size=200))
    return {"x": x, "y": np.sin(2 * x) + 0.3 * x + 0.2 * generator.normal(size=200)}


def saas() -> dict[str, np.ndarray]:
    """A function of 20 inputs of which three matter, at 50 points."""
    generator = np.random.default_rng(4)
    x = generator.random((50, 20))
    f = np.sin(6 * x[:, 0]) + 2 * (x[:, 1] - 0.5) ** 2 + x[:, 2]
    y = f + 0.05 * generator.normal(size=50)
    return {"x": x, "y": (y - y.mean()) / y.std()}


def mixture() -> dict[str, np.ndarray]:
    """2,000 numbers from three Gaussian components."""
    generator = np.random.default_rng(3)
    which = generator.integers(0, 3, 2000)
    return {"y": generator.normal(np.array([-3.0, 0.0, 3.0])[which], np.array([0.5, 1.0, 0.7])[which])}


def _hmm(steps: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(4)
    transition = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    states = [0]
    for _ in range(steps - 1):
        states.append(int(generator.choice(3, p=transition[states[-1]])))
    return {"y": generator.normal(np.array([-2.0, 0.0, 2.0])[states], 1.0)}


def hmm_50() -> dict[str, np.ndarray]:
    """A hidden Markov model of three states over 50 steps."""
    return _hmm(50)


def hmm_500() -> dict[str, np.ndarray]:
    """A hidden Markov model of three states over 500 steps."""
    return _hmm(500)


def lda() -> dict[str, np.ndarray]:
    """Words of 200 synthetic documents of 64 words each, from 8 topics over 500 words."""
    generator = np.random.default_rng(5)
    topics = generator.dirichlet(np.full(500, 0.05), size=8)
    shares = generator.dirichlet(np.full(8, 0.3), size=200)
    words = [[generator.choice(500, p=share @ topics) for _ in range(64)] for share in shares]
    return {"words": np.array(words).T.copy()}


WORKLOADS = {
    each.__name__: each
    for each in (
        eight_schools,
        radon,
        logistic_10k,
        logistic_100k,
        irt,
        stochastic_volatility,
        gaussian_process,
        saas,
    )
}
DISCRETE = {each.__name__: each for each in (mixture, hmm_50, hmm_500)}  # for benchmarks/enumeration.py
DENSE = ("saas",)  # sampled with a dense metric
