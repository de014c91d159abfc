"""Guide eight schools, whose posterior is a funnel, by a normalizing flow, beside a mean-field guide.

The data are Rubin's (1981); written centred, the schools' effects narrow as their spread does, which no
normal distribution follows. Run it by ``python -m ember.examples.schools_flow``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import ember
import ember.distributions as dist
from ember.distributions.transforms import affine_autoregressive, iterated
from ember.infer import SVI, Trace_ELBO, psis_diagnostic
from ember.infer.autoguide import AutoNormal, AutoNormalizingFlow

Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def model() -> Tensor:
    """Let effects of coaching be normal around a mean, and seen with known errors."""
    mean = ember.sample("mean", dist.Normal(0.0, 5.0))
    spread = ember.sample("spread", dist.HalfCauchy(5.0))
    with ember.plate("schools", len(Y)):
        effect = ember.sample("effect", dist.Normal(mean, spread))
        ember.sample("y", dist.Normal(effect, SIGMA.to(effect)), obs=Y.to(effect))
    return effect


def flow_guide() -> AutoNormalizingFlow:
    """Return a guide of two inverse autoregressive transforms."""
    return AutoNormalizingFlow(model, partial(iterated, 2, affine_autoregressive, hidden_dims=[40]))


def train(guide: Callable[..., Any], steps: int = 1500, particles: int = 10) -> float:
    """Train a guide and return its bound on the log evidence."""
    optimizer = ember.optim.ClippedAdam({"lr": 0.01, "lrd": 0.05 ** (1 / steps)})
    svi = SVI(model, guide, optimizer, Trace_ELBO(num_particles=particles, vectorize_particles=True))
    for _ in range(steps):
        svi.step()
    return -Trace_ELBO(num_particles=3000, vectorize_particles=True).loss(model, guide)


def main() -> None:
    """Train both guides, and print how close each comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    for guide in (AutoNormal(model), flow_guide()):
        ember.set_rng_seed(0)
        bound = train(guide, options.steps)
        k_hat = psis_diagnostic(model, guide, num_particles=5000, max_plate_nesting=1)
        print(f"{type(guide).__name__:20} log evidence > {bound:.2f}, k-hat {k_hat:.2f}")


if __name__ == "__main__":
    main()
