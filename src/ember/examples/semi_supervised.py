"""Learn to read digits of which few are labelled.

Each digit has a chance for each pixel to be set. Labelled images say what a digit looks like; for the others
the sum over all ten digits tells how well each explains them, and so they help too (Nigam et al. 2000). The
images are made up: glyphs of 5 by 7 pixels with much noise.
Run it by ``python -m ember.examples.semi_supervised``.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import ember as pyro
import ember.distributions as dist
from ember import poutine
from ember.infer import SVI, TraceEnum_ELBO, infer_discrete
from ember.infer.autoguide import AutoDelta
from ember.ops.indexing import Vindex
from ember.optim import Adam

PIXELS, DIGITS = 35, 10
PARALLEL = {"enumerate": "parallel"}
# The rows of each digit's glyph, as numbers of five bits.
GLYPHS = [
    "0e 11 13 15 19 11 0e", "04 0c 04 04 04 04 0e", "0e 11 01 02 04 08 1f", "1f 02 04 02 01 11 0e",
    "02 06 0a 12 1f 02 02", "1f 10 1e 01 01 11 0e", "06 08 10 1e 11 11 0e", "1f 01 02 04 08 08 08",
    "0e 11 11 0e 11 11 0e", "0e 11 11 0f 01 02 0c",
]  # fmt: skip


def simulate(count: int, noise: float) -> tuple[Tensor, Tensor]:
    """Return images ``[count, PIXELS]`` of zeros and ones, and digits ``[count]``.

    :param noise: share of the pixels that are flipped.
    """
    rows = torch.tensor([[int(row, 16) for row in glyph.split()] for glyph in GLYPHS])
    glyphs = ((rows.unsqueeze(-1) >> torch.arange(4, -1, -1)) & 1).flatten(1).float()
    digits = torch.arange(count) % DIGITS
    flipped = torch.rand(count, PIXELS) < noise
    return torch.where(flipped, 1 - glyphs[digits], glyphs[digits]), digits


def model(labelled: Tensor, digits: Tensor, unlabelled: Tensor | None = None) -> Tensor | None:
    """Draw a digit for each image, then its pixels; returns the digits of unlabelled images."""
    share = pyro.sample("share", dist.Dirichlet(torch.full((DIGITS,), 5.0)))
    chance = pyro.sample("chance", dist.Beta(1.5, 1.5).expand([DIGITS, PIXELS]).to_event(2))
    with pyro.plate("labelled", len(labelled)):
        pyro.sample("digit", dist.Categorical(share), obs=digits)
        pyro.sample("image", dist.Bernoulli(chance[digits]).to_event(1), obs=labelled)
    if unlabelled is None:
        return None
    with pyro.plate("unlabelled", len(unlabelled)):
        unknown = pyro.sample("unknown", dist.Categorical(share), infer=PARALLEL)
        pixels = dist.Bernoulli(Vindex(chance)[unknown]).to_event(1)
        pyro.sample("unlabelled_image", pixels, obs=unlabelled)
    return unknown


def fit(labelled: Tensor, digits: Tensor, unlabelled: Tensor | None, steps: int) -> dict[str, Tensor]:
    """Return the most probable shares of digits and chances of pixels."""
    pyro.clear_param_store()
    guide = AutoDelta(poutine.block(model, expose=["share", "chance"]))
    elbo = TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
    svi = SVI(model, guide, Adam({"lr": 0.05}), elbo)
    for step in range(steps):
        # Before the labels have said what digits look like, the sums over digits would lead astray.
        svi.step(labelled, digits, unlabelled if step > steps // 2 else None)
    return {name: value.detach() for name, value in guide(labelled, digits).items()}


def read(known: dict[str, Tensor], labelled: Tensor, digits: Tensor, images: Tensor) -> Tensor:
    """Return the most probable digit of each image, ``[images]``."""
    reader = infer_discrete(poutine.condition(model, data=known), first_available_dim=-2, temperature=0)
    return reader(labelled, digits, images)


def main(arguments: list[str] | None = None) -> int:
    """Run the example and print how well digits are read."""
    parser = argparse.ArgumentParser(description="Learn to read digits of which few are labelled.")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--labels", type=int, default=30)
    parser.add_argument("--noise", type=float, default=0.18)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    pyro.set_rng_seed(options.seed)
    images, digits = simulate(options.images, options.noise)
    others, truth = simulate(1000, options.noise)
    given = images[: options.labels], digits[: options.labels]
    print(f"{options.images} images, {options.labels} of them labelled; read right among 1,000 others:")
    for name, unlabelled in (("labelled images alone", None), ("all images", images[options.labels :])):
        known = fit(*given, unlabelled, options.steps)
        right = (read(known, *given, others) == truth).float().mean().item()
        print(f"  {name:22s} {right:.1%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
