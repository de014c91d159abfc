"""Define small discrete networks, each written as users write them, and small enough to sum by force."""

import torch

import ember
from ember import distributions as dist
from ember import poutine
from ember.ops.indexing import Vindex

TRANSITION = [[0.8, 0.15, 0.05], [0.1, 0.7, 0.2], [0.3, 0.3, 0.4]]


def probs(name, *shape):
    """Return a learnable table of probabilities."""
    generator = torch.Generator().manual_seed(len(name))
    return ember.param(
        name,
        torch.rand(*shape, generator=generator) + 0.2,
        constraint=dist.constraints.positive,
    )


def mixture():
    weights, loc = probs("weights", 3), ember.param("loc", torch.tensor([-1.0, 0.5, 2.0]))
    data = torch.tensor([0.1, -2.0, 1.3, 0.7])
    with ember.plate("data", 4):
        z = ember.sample("z", dist.Categorical(weights))
        ember.sample("x", dist.Normal(loc[z], 1.0), obs=data)


def mixture_with_global_switch():
    coin, loc = probs("coin", 2), ember.param("loc", torch.tensor([[-1.0, 0.5], [2.0, 3.0]]))
    data = torch.tensor([0.1, -2.0, 1.3])
    s = ember.sample("s", dist.Bernoulli(0.3))
    with ember.plate("data", 3):
        z = ember.sample("z", dist.Categorical(coin))
        ember.sample("x", dist.Normal(Vindex(loc)[s.long(), z], 1.0), obs=data)


def hmm():
    transition, loc = probs("transition", 3, 3), ember.param("loc", torch.tensor([-1.0, 0.0, 2.0]))
    x = 0
    for t in ember.markov(range(6)):
        x = ember.sample(f"x{t}", dist.Categorical(transition[x]))
        ember.sample(f"y{t}", dist.Normal(loc[x], 0.7), obs=torch.tensor(0.4 * t - 1.0))


def second_order_hmm():
    transition = probs("second order", 2, 2, 2)
    before, now = torch.tensor(0), torch.tensor(1)
    for t in ember.markov(range(5), history=2):
        before, now = now, ember.sample(f"x{t}", dist.Categorical(Vindex(transition)[before, now]))
        ember.sample(f"y{t}", dist.Normal(now.float(), 0.7), obs=torch.tensor(0.4 * t - 1.0))


def batch_of_hmms():
    transition = probs("transition", 2, 2)
    data = torch.tensor([[0.0, 1.0, 0.3], [1.2, -0.4, 0.9]])
    with ember.plate("sequences", 2, dim=-1):
        x = 0
        for t in ember.markov(range(3)):
            x = ember.sample(f"x{t}", dist.Categorical(transition[x]))
            ember.sample(f"y{t}", dist.Normal(x.float(), 0.5), obs=data[:, t])


def factorial_hmm():
    first, second = probs("first", 2, 2), probs("second chain", 3, 3)
    a = b = 0
    for t in ember.markov(range(3)):
        a = ember.sample(f"a{t}", dist.Categorical(first[a]))
        b = ember.sample(f"b{t}", dist.Categorical(second[b]))
        ember.sample(f"y{t}", dist.Normal((a - b).float(), 1.0), obs=torch.tensor(0.4 * t))


def coupled_chains():
    table = probs("coupled", 2, 2, 2)
    a = b = torch.tensor(0)
    for t in ember.markov(range(4)):
        new_a = ember.sample(f"a{t}", dist.Categorical(Vindex(table)[a, b]))
        b = ember.sample(f"b{t}", dist.Categorical(Vindex(table)[b, a]))
        a = new_a
        ember.sample(f"y{t}", dist.Normal((a + 2 * b).float(), 1.0), obs=torch.tensor(0.4 * t))


def tree():
    table = probs("branch", 2, 2)

    @ember.markov(keep=True)
    def grow(name, parent, depth):
        x = ember.sample(name, dist.Bernoulli(Vindex(table)[parent.long(), 0] / 2))
        if depth:
            grow(name + "l", x, depth - 1)
            grow(name + "r", x, depth - 1)
        else:
            ember.sample(name + "y", dist.Normal(x, 1.0), obs=torch.tensor(0.3 * len(name)))

    grow("n", torch.tensor(1.0), 2)


def nested_plates():
    top, low = probs("top", 2), probs("low", 2, 3)
    data = torch.linspace(-1.0, 2.0, 6).reshape(3, 2)
    g = ember.sample("g", dist.Categorical(top))
    with ember.plate("outer", 2, dim=-1):
        a = ember.sample("a", dist.Categorical(low[g]))
        with ember.plate("inner", 3, dim=-2):
            c = ember.sample("c", dist.Bernoulli(0.2 + 0.2 * a.float()))
            ember.sample("x", dist.Normal(c + g, 1.0), obs=data)


def crossed_plates():
    """A global site, plates that cross, and enumerated sites in one of them only."""
    top, low = probs("top", 2), probs("low", 2, 2)
    g = ember.sample("g", dist.Categorical(top))
    columns, rows = ember.plate("columns", 2, dim=-1), ember.plate("rows", 3, dim=-2)
    with rows:
        r = ember.sample("r", dist.Categorical(low[g]))
    with columns:
        ember.sample("c", dist.Normal(g.float(), 1.0), obs=torch.tensor([0.2, 0.9]))
    with rows, columns:
        loc = torch.tensor([[0.0, 1.0]]) + r.float()
        ember.sample("x", dist.Normal(loc, 1.0), obs=torch.linspace(0, 1, 6).reshape(3, 2))


def sequential_plate():
    table = probs("top", 2)
    g = ember.sample("g", dist.Categorical(table))
    for i in ember.plate("items", 4):
        z = ember.sample(f"z{i}", dist.Bernoulli(0.2 + 0.5 * g.float()))
        ember.sample(f"x{i}", dist.Normal(z, 1.0), obs=torch.tensor(0.5 * i))


def semi_supervised():
    table = probs("classes", 3)
    labels = torch.tensor([2, 0])
    for kind, size, observed in (("labelled", 2, labels), ("unlabelled", 3, None)):
        with ember.plate(kind, size):
            y = ember.sample(f"y_{kind}", dist.Categorical(table), obs=observed)
            data = torch.linspace(-1.0, 2.0, size)
            ember.sample(f"x_{kind}", dist.Normal(y.float(), 1.0), obs=data)


def masked_and_binomial():
    mask = torch.tensor([True, False, True])
    n = ember.sample("n", dist.Binomial(3, torch.tensor(0.4)))
    with ember.plate("data", 3), poutine.mask(mask=mask):
        ember.sample("x", dist.Poisson(0.5 + n), obs=torch.tensor([1.0, 0.0, 4.0]))


NETWORKS = [
    mixture,
    mixture_with_global_switch,
    hmm,
    second_order_hmm,
    batch_of_hmms,
    factorial_hmm,
    coupled_chains,
    tree,
    nested_plates,
    crossed_plates,
    sequential_plate,
    semi_supervised,
    masked_and_binomial,
]
