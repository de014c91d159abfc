"""Read digits row by row with a deep Markov model: a hidden state moves, each state emits a row of pixels.

Model and guide follow Krishnan, Shalit & Sontag 2017, arXiv 1609.09869: gated transitions, and a guide that
reads the rows to come by a recurrent network. Data are scikit-learn's images of 8 × 8 pixels.
Run it by ``python -m ember.examples.digit_rows``.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import ember
import ember.distributions as dist
from ember.examples.digits import LEVELS, load
from ember.infer import SVI, Predictive, Trace_ELBO
from ember.nn import DenseNN


class GatedTransition(nn.Module):
    """Location and scale of the next state: a mixture of a linear and a nonlinear move."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.gate = DenseNN(size, [hidden], [size])
        self.move = DenseNN(size, [hidden], [size])
        self.linear = nn.Linear(size, size)
        nn.init.eye_(self.linear.weight)
        self.scale = nn.Linear(size, size)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and scale, each of the state's shape."""
        share, move = torch.sigmoid(self.gate(state)), self.move(state)
        loc = (1.0 - share) * self.linear(state) + share * move
        return loc, nn.functional.softplus(self.scale(torch.relu(move))) + 1e-3


class DeepMarkovModel(nn.Module):
    """Transition, emission, the guide's networks, and the model and guide that they belong to."""

    def __init__(self, size: int = 8, hidden: int = 32, pixels: int = 8) -> None:
        super().__init__()
        self.pixels = pixels
        self.transition = GatedTransition(size, hidden)
        self.emission = DenseNN(size, [hidden], [pixels])
        self.reader = nn.GRU(pixels, hidden, batch_first=True)
        self.combine = DenseNN(size + hidden, [hidden], [size, size])
        self.start = nn.Parameter(torch.zeros(size))
        self.guide_start = nn.Parameter(torch.zeros(size))

    def model(self, rows: Tensor | None = None, count: int = 1, length: int = 8) -> None:
        """Let a state move through ``length`` steps, and emit binomial levels of a row at each.

        :param rows: images, ``(count, length, pixels)``; None to draw them.
        """
        ember.module("dmm", self)
        count, length = (count, length) if rows is None else rows.shape[:2]
        with ember.plate("images", count):
            state = self.start.expand(count, -1)
            for t in range(length):
                loc, scale = self.transition(state)
                state = ember.sample(f"state_{t}", dist.Normal(loc, scale).to_event(1))
                row = dist.Binomial(LEVELS, logits=self.emission(state)).to_event(1)
                ember.sample(f"row_{t}", row, obs=None if rows is None else rows[:, t])

    def guide(self, rows: Tensor) -> None:
        """Draw each state given the one before and the rows to come."""
        ember.module("dmm", self)
        to_come, _ = self.reader((rows / LEVELS).flip(1))
        to_come = to_come.flip(1)
        with ember.plate("images", len(rows)):
            state = self.guide_start.expand(len(rows), -1)
            for t in range(rows.shape[1]):
                loc, raw = self.combine(torch.cat([state, to_come[:, t]], -1))
                scale = nn.functional.softplus(raw) + 1e-3
                state = ember.sample(f"state_{t}", dist.Normal(loc, scale).to_event(1))


def train(rows: Tensor, epochs: int = 25, batch: int = 128) -> tuple[DeepMarkovModel, list[float]]:
    """Return the trained model and the loss per image of each epoch."""
    dmm = DeepMarkovModel(pixels=rows.shape[-1])
    svi = SVI(dmm.model, dmm.guide, ember.optim.ClippedAdam({"lr": 0.01, "lrd": 0.995}), Trace_ELBO())
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(rows))
        losses.append(sum(svi.step(rows[part]) for part in order.split(batch)) / len(rows))
    return dmm, losses


def draw(dmm: DeepMarkovModel, count: int) -> Tensor:
    """Return images that the trained model makes up, ``(count, 8, pixels)``."""
    found = Predictive(dmm.model, num_samples=1)(count=count)
    return torch.stack([found[f"row_{t}"][0] for t in range(8)], 1)


def show(image: Tensor) -> str:
    """Return an image as lines of characters."""
    return "\n".join("".join(" .:-=+*#@"[int(level) // 2] for level in row) for row in image.tolist())


def main() -> None:
    """Train on all images, print the loss, and some images that the model makes up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=25)
    options = parser.parse_args()
    ember.set_rng_seed(0)
    images, _ = load()
    dmm, losses = train(images.reshape(-1, 8, 8), options.epochs)
    print(f"loss per image {losses[0]:.1f} -> {losses[-1]:.1f}")
    for image in draw(dmm, 4):
        print(show(image), end="\n\n")


if __name__ == "__main__":
    main()
