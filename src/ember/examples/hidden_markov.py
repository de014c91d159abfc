"""Compare hidden Markov models of chorales, some with neural networks between notes.

Made-up chorales over eight notes, whose harmony follows a hidden chain. Three models (a plain chain; notes
that also depend on the notes before, through a network; two hidden chains side by side) are fitted with the
hidden states summed out, and compared on chorales that were held out.
Run it by ``python -m ember.examples.hidden_markov``.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable

import torch
from torch import Tensor

import ember as pyro
import ember.distributions as dist
from ember import poutine
from ember.infer import SVI, TraceEnum_ELBO
from ember.infer.autoguide import AutoDelta
from ember.ops.indexing import Vindex
from ember.optim import Adam

NOTES = 8
PARALLEL = {"enumerate": "parallel"}


def simulate(count: int, longest: int) -> tuple[Tensor, Tensor]:
    """Return chorales ``[count, longest, NOTES]`` of zeros and ones, and their lengths ``[count]``."""
    chords = torch.full((4, NOTES), 0.05)
    for row, notes in zip(chords, [(0, 2, 4), (3, 5, 0), (4, 6, 1), (5, 0, 2)], strict=True):
        row[list(notes)] = 0.85
    steps = torch.tensor([[1.0, 4, 4, 1], [3, 1, 5, 1], [8, 1, 1, 1], [1, 6, 2, 1]])
    chord, music = torch.zeros(count, dtype=torch.long), []
    held = torch.zeros(count, NOTES)
    for _ in range(longest):
        chord = dist.Categorical(steps[chord]).sample()
        held = dist.Bernoulli(0.6 * chords[chord] + 0.37 * held).sample()  # notes tend to be held
        music.append(held)
    lengths = torch.randint(longest // 2, longest + 1, (count,))
    return torch.stack(music, 1), lengths


def chances(states: int) -> dist.Independent:
    """Return a prior over a matrix of transition probabilities."""
    return dist.Dirichlet(torch.ones(states, states) + 2 * torch.eye(states)).to_event(1)


def plain(music: Tensor, lengths: Tensor, states: int = 6) -> None:
    """Let each note depend on the hidden state alone."""
    move = pyro.sample("move", chances(states))
    sound = pyro.sample("sound", dist.Beta(1.0, 3.0).expand([states, NOTES]).to_event(2))
    with pyro.plate("chorales", len(music), dim=-2):
        state: Tensor | int = 0
        for t in pyro.markov(range(music.shape[1])):
            with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                state = pyro.sample(f"state_{t}", dist.Categorical(move[state]), infer=PARALLEL)
                with pyro.plate(f"notes_{t}", NOTES, dim=-1):
                    likely = Vindex(sound)[state, torch.arange(NOTES)]
                    pyro.sample(f"note_{t}", dist.Bernoulli(likely), obs=music[:, t])


class Emissions(torch.nn.Module):
    """A network from the hidden state and the notes before to the log odds of notes."""

    def __init__(self, states: int, hidden: int = 16) -> None:
        super().__init__()
        self.state = torch.nn.Embedding(states, hidden)
        self.notes = torch.nn.Linear(NOTES, hidden)
        self.out = torch.nn.Linear(hidden, NOTES)

    def forward(self, state: Tensor, notes: Tensor) -> Tensor:
        """Return log odds, with the notes in the last dim."""
        return self.out(torch.relu(self.state(state) + self.notes(notes)))


def neural(network: Emissions, music: Tensor, lengths: Tensor, states: int = 6) -> None:
    """Let the notes depend on the state and on the notes before, through a network."""
    pyro.module("emissions", network)
    move = pyro.sample("move", chances(states))
    with pyro.plate("chorales", len(music)):
        state: Tensor | int = 0
        before = torch.zeros(len(music), NOTES)
        for t in pyro.markov(range(music.shape[1])):
            with poutine.mask(mask=t < lengths):
                state = pyro.sample(f"state_{t}", dist.Categorical(move[state]), infer=PARALLEL)
                logits = network(state, before)
                pyro.sample(f"notes_{t}", dist.Bernoulli(logits=logits).to_event(1), obs=music[:, t])
            before = music[:, t]


def factorial(music: Tensor, lengths: Tensor, states: int = 3) -> None:
    """Let two chains of hidden states move side by side; the notes depend on both."""
    moves = [pyro.sample(f"move_{each}", chances(states)) for each in "ab"]
    sound = pyro.sample("sound", dist.Beta(1.0, 3.0).expand([states, states, NOTES]).to_event(3))
    with pyro.plate("chorales", len(music), dim=-2):
        a: Tensor | int = 0
        b: Tensor | int = 0
        for t in pyro.markov(range(music.shape[1])):
            with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                a = pyro.sample(f"a_{t}", dist.Categorical(moves[0][a]), infer=PARALLEL)
                b = pyro.sample(f"b_{t}", dist.Categorical(moves[1][b]), infer=PARALLEL)
                with pyro.plate(f"notes_{t}", NOTES, dim=-1):
                    likely = Vindex(sound)[a, b, torch.arange(NOTES)]
                    pyro.sample(f"note_{t}", dist.Bernoulli(likely), obs=music[:, t])


def fit(
    model: Callable[..., None], nesting: int, music: Tensor, lengths: Tensor, steps: int
) -> tuple[Callable[[Tensor, Tensor], float], list[float]]:
    """Return a function that scores other chorales (loss per note), and the losses of the fit."""
    guide = AutoDelta(poutine.block(model, expose=["move", "move_a", "move_b", "sound"]))
    elbo = TraceEnum_ELBO(max_plate_nesting=nesting)
    svi = SVI(model, guide, Adam({"lr": 0.05}), elbo)
    losses = [svi.step(music, lengths) / (NOTES * lengths.sum().item()) for _ in range(steps)]
    known = {name: value.detach() for name, value in guide(music, lengths).items()}

    def score(music: Tensor, lengths: Tensor) -> float:
        # The learned probabilities are given, so their priors are left out of the comparison.
        given = poutine.block(poutine.condition(model, data=known), hide=list(known))
        return elbo.loss(given, lambda *args: None, music, lengths) / (NOTES * lengths.sum().item())

    return score, losses


def main(arguments: list[str] | None = None) -> int:
    """Run the example and print its table."""
    parser = argparse.ArgumentParser(description="Compare hidden Markov models of chorales.")
    parser.add_argument("--chorales", type=int, default=100)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    pyro.set_rng_seed(options.seed)
    music, lengths = simulate(2 * options.chorales, options.length)
    learned, held_out = slice(0, options.chorales), slice(options.chorales, None)
    print("model      loss per note: first   last   held out")
    networked = functools.partial(neural, Emissions(6))
    for model, nesting, name in ((plain, 2, "plain"), (networked, 1, "neural"), (factorial, 2, "factorial")):
        pyro.clear_param_store()
        score, losses = fit(model, nesting, music[learned], lengths[learned], options.steps)
        rest = score(music[held_out], lengths[held_out])
        print(f"{name:10s} {losses[0]:20.3f} {losses[-1]:6.3f} {rest:10.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
