"""Tabulate what is said of enumerated sites that depend on each other: along chains, and across plates."""

import torch
from table import (
    PASSES,
    SUMMED,
    Row,
    bernoulli,
    categorical,
    check,
    each,
    inside,
    normal,
    observe,
    over,
    plate,
    raises,
)

import ember
import ember.distributions as dist
from ember.ops.indexing import Vindex

PARALLEL = {"enumerate": "parallel"}
LOC = torch.tensor([-1.0, 0.0, 1.0])


def z(infer=PARALLEL, **how):
    return bernoulli("z", infer=infer, **how)


def mixture(infer=PARALLEL):
    """A mixture in a plate."""
    inside(plate(), lambda: observe("x", LOC[categorical("k", infer=infer)], 3))


def chain(length, markov, history=1):
    """A chain of binary sites, each of which depends on the ``history`` sites before."""
    values = [torch.tensor(0)] * history
    table = torch.ones((2,) * (history + 1))
    steps = (
        ember.markov(range(length), history=history)
        if markov == "right"
        else ember.markov(range(length))
        if markov
        else range(length)
    )
    for t in steps:
        now = ember.sample(f"z{t}", dist.Categorical(Vindex(table)[tuple(values)]), infer=PARALLEL)
        values = [*values[1:], now]
    return values


def crossing():
    a, b = plate("a", 2, dim=-1), plate("b", 3, dim=-2)
    with a:
        x = bernoulli("x", infer=PARALLEL)
    with b:
        y = bernoulli("y", infer=PARALLEL)
    with a, b:
        observe("w", x + y, 3, 2)


ROWS = [
    # -- markov ------------------------------------------------------------------------------------------
    Row("a chain without markov", PASSES, lambda: chain(4, None), on=SUMMED),
    Row("a chain with markov", PASSES, lambda: chain(4, "right"), on=SUMMED),
    Row("a chain of history two", PASSES, lambda: chain(5, "right", 2), on=SUMMED),
    Row(
        "a history that is too short",
        raises("Enumeration dim conflict", "longer history", "'z2'"),
        lambda: chain(5, "default", 2),
        on=SUMMED,
    ),
    Row("a long chain with markov", PASSES, lambda: chain(80, "right"), on=SUMMED),
    Row(
        "markov without enumeration",
        PASSES,
        lambda: each(ember.markov(range(3)), lambda t: normal(f"z{t}")),
        lambda: each(range(3), lambda t: normal(f"z{t}")),
    ),
    Row(
        "a negative history",
        raises("history"),
        lambda: each(ember.markov(range(3), history=-1), lambda t: normal(f"z{t}")),
    ),
    Row(
        "one name in a markov loop",
        raises("Multiple sample sites named 'z'", error=RuntimeError),
        lambda: each(ember.markov(range(3)), lambda t: z()),
        on=SUMMED,
    ),
    # -- plates ------------------------------------------------------------------------------------------
    Row("a global and local enumerated sites", PASSES, lambda: _tree(), on=SUMMED),
    Row(
        "sites of crossing plates meet",
        raises("different plates meet", "'x' in plates {a}", "'y' in plates {b}"),
        crossing,
        on=SUMMED,
    ),
    Row(
        "a global site that depends on a local one",
        raises("'z' in plates {p}", " Shapes:", "w dist"),
        lambda: ember.sample("w", dist.Bernoulli(0.2 + 0.1 * inside(plate(), z)), infer=PARALLEL),
        on=SUMMED,
    ),
    Row(
        "a sum of local enumerated values",
        raises("'w'"),
        lambda: ember.sample(
            "w",
            dist.Normal(
                inside(plate(), lambda: bernoulli("z", infer={"enumerate": "parallel", "expand": True})), 1.0
            ),
        ),
        on=SUMMED,
    ),
    Row(
        "other scales within a sum",
        raises("'z' and 'y' depend on each other but have different scales"),
        lambda: _scaled(),
        on=SUMMED,
    ),
    Row(
        "a subsampled mixture",
        PASSES,
        lambda: inside(
            ember.plate("p", 6, 3), lambda: observe("x", LOC[categorical("k", infer=PARALLEL)], 3)
        ),
        on=SUMMED,
    ),
    Row(
        "a masked mixture",
        PASSES,
        ember.poutine.mask(mixture, mask=torch.tensor([True, False, True])),
        on=SUMMED,
    ),
    Row(
        "particles side by side",
        PASSES,
        mixture,
        on=SUMMED,
        options={"num_particles": 3, "vectorize_particles": True},
    ),
]


def _tree():
    w = bernoulli("w", infer=PARALLEL)
    inside(plate(), lambda: observe("x", bernoulli("y", probs=0.2 + 0.5 * w, infer=PARALLEL), 3))


def _scaled():
    first = z()
    with ember.poutine.scale(scale=2.0):
        bernoulli("y", probs=0.2 + 0.5 * first, infer=PARALLEL)


@over(ROWS)
def test_sums(row, objective):
    check(row, objective)
