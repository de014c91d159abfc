"""Fit a mixture of normals to waiting times, with the assignments summed out.

The number of components is given, their weights, means and spreads are learned by variational inference; then
each point is assigned. Run it by ``python -m ember.examples.gaussian_mixture``.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import ember as pyro
import ember.distributions as dist
from ember.infer import SVI, TraceEnum_ELBO, config_enumerate, infer_discrete
from ember.infer.autoguide import AutoNormal, init_to_value
from ember.optim import Adam
from ember.poutine import block, condition


def simulate(count: int) -> tuple[Tensor, Tensor]:
    """Return waiting times between eruptions in minutes, and which kind each was: ``[count]`` both."""
    kind = dist.Categorical(torch.tensor([0.35, 0.65])).sample([count])
    means, spreads = torch.tensor([54.0, 80.0]), torch.tensor([6.0, 5.0])
    return dist.Normal(means[kind], spreads[kind]).sample(), kind


@config_enumerate
def model(data: Tensor, components: int = 2) -> Tensor:
    """Draw each point from one of the components; returns the assignments."""
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(components)))
    with pyro.plate("components", components):
        mean = pyro.sample("mean", dist.Normal(70.0, 20.0))
        spread = pyro.sample("spread", dist.LogNormal(1.5, 0.5))
    with pyro.plate("data", len(data)):
        kind = pyro.sample("kind", dist.Categorical(weights))
        pyro.sample("x", dist.Normal(mean[kind], spread[kind]), obs=data)
    return kind


def fit(data: Tensor, components: int, steps: int) -> tuple[dict[str, Tensor], Tensor, list[float]]:
    """Return the posterior's medians, the most probable assignments and the losses."""
    # Components that start at one place would stay there: begin at quantiles of the data.
    starts = data.quantile(torch.linspace(0.1, 0.9, components))
    start = init_to_value(values={"mean": starts, "spread": data.std().expand(components) / 2})
    guide = AutoNormal(block(model, hide=["kind"]), init_loc_fn=start)
    svi = SVI(model, guide, Adam({"lr": 0.05}), TraceEnum_ELBO(max_plate_nesting=1))
    losses = [svi.step(data, components) for _ in range(steps)]
    medians = {name: value.detach() for name, value in guide.median(data, components).items()}
    decoder = infer_discrete(condition(model, data=medians), first_available_dim=-2, temperature=0)
    return medians, decoder(data, components), losses


def main(arguments: list[str] | None = None) -> int:
    """Run the example and print its table."""
    parser = argparse.ArgumentParser(description="Fit a mixture of normals.")
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    pyro.set_rng_seed(options.seed)
    pyro.clear_param_store()
    data, truth = simulate(options.points)
    medians, kind, losses = fit(data, 2, options.steps)
    print(f"loss per point: {losses[0] / len(data):.3f} at first, {losses[-1] / len(data):.3f} at last")
    print("component  weight   mean  spread  points")
    for each in range(2):
        row = [medians[name][each].item() for name in ("weights", "mean", "spread")]
        print(f"{each:9d}  {row[0]:6.2f} {row[1]:6.1f}  {row[2]:6.2f}  {int((kind == each).sum()):6d}")
    print(f"assigned to the right component: {(kind == truth).float().mean():.1%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
