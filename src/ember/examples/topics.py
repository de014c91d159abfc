"""Find topics in the chapters of *Pride and Prejudice*.

Latent Dirichlet allocation (Blei, Ng & Jordan 2003): each chapter mixes topics, each topic is a distribution
over words. The topic of each word is summed out; chapters and topics get Dirichlet posteriors, learned from
minibatches of words. The data holds words as numbers only. Run it by ``python -m ember.examples.topics``.
"""

from __future__ import annotations

import argparse
import json
import math
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor

import ember as pyro
import ember.distributions as dist
from ember.distributions import constraints
from ember.infer import SVI, TraceEnum_ELBO
from ember.ops.indexing import Vindex
from ember.optim import ClippedAdam


class Corpus(NamedTuple):
    """Word and chapter of each token, from 0, with the number of different words and of chapters."""

    word: Tensor
    chapter: Tensor
    num_words: int
    num_chapters: int


def load() -> Corpus:
    """Return the 32,877 tokens of the book."""
    text = resources.files("ember.examples").joinpath("data/prideprejudice_chapter.json").read_text()
    data = json.loads(text)
    return Corpus(torch.tensor(data["w"]) - 1, torch.tensor(data["doc"]) - 1, data["V"], data["M"])


def model(corpus: Corpus, num_topics: int, batch_size: int) -> None:
    """Choose a topic for each token by its chapter, then the word by the topic."""
    with pyro.plate("topics", num_topics):
        words = pyro.sample("words", dist.Dirichlet(torch.full((corpus.num_words,), 0.1)))
    with pyro.plate("chapters", corpus.num_chapters):
        mixture = pyro.sample("mixture", dist.Dirichlet(torch.full((num_topics,), 0.1)))
    with pyro.plate("tokens", len(corpus.word), batch_size) as token:
        topic = pyro.sample(
            "topic", dist.Categorical(mixture[corpus.chapter[token]]), infer={"enumerate": "parallel"}
        )
        pyro.sample("word", dist.Categorical(Vindex(words)[topic]), obs=corpus.word[token])


def guide(corpus: Corpus, num_topics: int, batch_size: int) -> None:
    """Let topics and chapters have independent Dirichlet posteriors."""

    def start(*shape: int) -> Tensor:
        return 0.5 + torch.rand(shape)

    positive = constraints.positive
    words = pyro.param("words_counts", lambda: start(num_topics, corpus.num_words), constraint=positive)
    mixture = pyro.param(
        "mixture_counts", lambda: start(corpus.num_chapters, num_topics), constraint=positive
    )
    with pyro.plate("topics", num_topics):
        pyro.sample("words", dist.Dirichlet(words))
    with pyro.plate("chapters", corpus.num_chapters):
        pyro.sample("mixture", dist.Dirichlet(mixture))


def fit(corpus: Corpus, num_topics: int, steps: int, batch_size: int) -> tuple[Tensor, Tensor, list[float]]:
    """Return the topics ``[topics, words]``, the chapters ``[chapters, topics]``, and losses per token."""
    decay = 0.05 ** (1 / steps)
    svi = SVI(model, guide, ClippedAdam({"lr": 0.3, "lrd": decay}), TraceEnum_ELBO(max_plate_nesting=1))
    losses = [svi.step(corpus, num_topics, batch_size) / len(corpus.word) for _ in range(steps)]
    store = pyro.get_param_store()
    words, mixture = (store[f"{name}_counts"].detach() for name in ("words", "mixture"))
    return words / words.sum(-1, keepdim=True), mixture / mixture.sum(-1, keepdim=True), losses


def perplexity(corpus: Corpus, words: Tensor, mixture: Tensor) -> float:
    """Return the perplexity of the tokens: as unsure as a choice among that many equally likely words."""
    chances = (mixture[corpus.chapter] * words[:, corpus.word].T).sum(-1)
    return math.exp(-chances.log().mean().item())


def main(arguments: list[str] | None = None) -> int:
    """Run the example and print the topics."""
    parser = argparse.ArgumentParser(description="Find topics in Pride and Prejudice.")
    parser.add_argument("--topics", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    pyro.set_rng_seed(options.seed)
    pyro.clear_param_store()
    corpus = load()
    words, mixture, losses = fit(corpus, options.topics, options.steps, options.batch_size)
    counts = torch.bincount(corpus.word, minlength=corpus.num_words) / len(corpus.word)
    alone = math.exp(-counts[corpus.word].log().mean().item())
    print(f"loss per token: {losses[0]:.2f} at first, {sum(losses[-20:]) / len(losses[-20:]):.2f} at last")
    print(f"perplexity: {perplexity(corpus, words, mixture):.0f}; one topic for all chapters: {alone:.0f}")
    for topic, share in enumerate(mixture.mean(0)):
        # What a topic uses more often than the book does.
        typical = (words[topic] * (words[topic] / counts).log()).topk(8).indices.tolist()
        chapters = (mixture[:, topic].topk(4).indices + 1).tolist()
        print(f"topic {topic}: {share:.0%} of the chapters, most in {chapters}; typical words {typical}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
