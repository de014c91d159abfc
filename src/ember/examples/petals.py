"""Tell species of iris apart by their petals: a mixture whose guide has a continuous and a discrete part.

The data are scikit-learn's 150 flowers (Fisher 1936). The assignments are summed over exactly, and the guide
keeps a probability of each species for each flower.
Run it by ``python -m ember.examples.petals``.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import ember
import ember.distributions as dist
from ember import poutine
from ember.infer import SVI, TraceEnum_ELBO
from ember.infer.autoguide import AutoDelta, AutoDiscreteParallel, AutoGuideList, init_to_value

SPECIES = 3


def load() -> tuple[Tensor, Tensor]:
    """Return standardised length and width of petals ``(150, 2)``, and the true species."""
    from sklearn.datasets import load_iris

    found = load_iris()
    petals = torch.tensor(found.data[:, 2:], dtype=torch.get_default_dtype())
    return (petals - petals.mean(0)) / petals.std(0), torch.tensor(found.target)


def model(petals: Tensor) -> None:
    """Let each flower be of one of three species, each with a centre and a spread."""
    share = ember.sample("share", dist.Dirichlet(5.0 * torch.ones(SPECIES)))
    with ember.plate("species", SPECIES):
        centre = ember.sample("centre", dist.Normal(torch.zeros(2), 1.5).to_event(1))
        spread = ember.sample("spread", dist.LogNormal(-1.0, 0.5).expand([2]).to_event(1))
    with ember.plate("flowers", len(petals)):
        which = ember.sample("which", dist.Categorical(share))
        ember.sample("petal", dist.Normal(centre[which], spread[which]).to_event(1), obs=petals)


def train(petals: Tensor, steps: int = 300) -> tuple[AutoGuideList, list[float]]:
    """Return the trained guide and the losses."""
    # Mixtures have many optima: start in order of size, so that components mean the same in each run.
    start = {
        "centre": torch.tensor([[-1.3, -1.3], [0.2, 0.2], [1.0, 1.0]]),
        "spread": torch.full((SPECIES, 2), 0.4),
        "share": torch.full((SPECIES,), 1.0 / SPECIES),
    }
    guide = AutoGuideList(model)
    guide.append(AutoDelta(poutine.block(model, hide=["which"]), init_loc_fn=init_to_value(values=start)))
    guide.append(AutoDiscreteParallel(poutine.block(model, expose=["which"])))
    optimizer = ember.optim.ClippedAdam({"lr": 0.1, "lrd": 0.05 ** (1 / steps)})
    svi = SVI(model, guide, optimizer, TraceEnum_ELBO(max_plate_nesting=1))
    return guide, [svi.step(petals) for _ in range(steps)]


def main() -> None:
    """Fit, and print how species and mixture components agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    ember.set_rng_seed(0)
    petals, species = load()
    guide, losses = train(petals, options.steps)
    print(f"loss {losses[0]:.1f} -> {losses[-1]:.1f}")
    found = guide.median(petals)
    print("centres", found["centre"].tolist())
    agree = (found["which"] == species).double().mean()
    print(f"{agree:.0%} of the flowers are in their species' component")


if __name__ == "__main__":
    main()
