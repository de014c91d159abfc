"""Check the names that scopes, counters, frames and named objects give."""

import pytest
import torch

import ember
from ember import poutine
from ember.contrib.autoname import autoname, name_count, named, sample, scope
from ember.distributions import Bernoulli, Normal

UNIT = Normal(0.0, 1.0)


def names(fn, *args):
    nodes = poutine.trace(fn).get_trace(*args).nodes
    return [name for name in nodes if not name.startswith("_")]


@scope
def noise():
    return ember.sample("x", UNIT)


def test_scopes_nest():
    def model():
        noise()
        with scope(prefix="a"):
            ember.sample("y", UNIT)
            noise()
            ember.param("w", torch.tensor(1.0))
            with ember.plate("p", 2):
                ember.sample("z", UNIT)

    assert names(model) == ["noise/x", "a/y", "a/noise/x", "w", "a/p", "a/z"]

    @scope(prefix="model")
    def outer(n):
        @scope
        def inner(n):
            ember.sample("z", UNIT)
            return inner(n - 1) if n else 0

        inner(n)

    assert names(outer, 2) == ["model/inner/z", "model/inner/inner/z", "model/inner/inner/inner/z"]
    with pytest.raises(ValueError, match="no prefix"):
        scope().__enter__()


def test_scopes_act_on_log_densities_and_conditions():
    conditioned = poutine.condition(noise, {"noise/x": torch.tensor(2.0)})
    assert conditioned() == 2.0
    assert poutine.trace(conditioned).get_trace().log_prob_sum() == UNIT.log_prob(torch.tensor(2.0))


def test_names_are_counted():
    @name_count
    def model():
        for _ in range(3):
            ember.sample("x", UNIT)
        ember.sample("y", UNIT)
        ember.sample("x", UNIT)

    assert names(model) == ["x", "x__1", "x__2", "y", "x__3"]
    assert names(model) == ["x", "x__1", "x__2", "y", "x__3"]

    @name_count
    def scoped():
        noise(), noise()
        with scope(prefix="s"):
            ember.sample("x", UNIT), ember.sample("x", UNIT)
        with scope(prefix="s"):
            ember.sample("x", UNIT)
        for _ in range(2):
            with scope(prefix="t", inner=True):
                ember.sample("x", UNIT)

    assert names(scoped) == ["noise/x", "noise__1/x", "s/x", "s/x__1", "s__1/x", "t/x", "t/x__1"]


def test_frames_name_sites():
    @autoname
    def part():
        sample(UNIT), sample(UNIT), sample("c", UNIT), sample("c", UNIT)
        return sample(Bernoulli(0.3))

    inside = ["Normal", "Normal1", "c", "c1", "Bernoulli"]
    assert names(part) == [f"part/{name}" for name in inside]

    @autoname(name="model")
    def model():
        part()
        for _ in range(2):
            with autoname(name="loop"):
                sample(UNIT)

    expected = [f"model/part/{name}" for name in inside]
    assert names(model) == [*expected, "model/loop/Normal", "model/loop__1/Normal"]
    assert names(lambda: sample("x", UNIT) + sample(UNIT)) == ["x", "Normal"]
    with pytest.raises(ValueError, match="no name"):
        autoname().__enter__()


def test_objects_name_their_places():
    def model():
        latent = named.Object("latent")
        latent.x.sample_(UNIT)
        latent.y.z.sample_(UNIT, obs=torch.tensor(1.0))
        latent.foo.param_(torch.tensor(1.0))
        latent.parts = named.List()
        for _ in range(2):
            latent.parts.add().x.sample_(UNIT)
        latent.parts.add().sample_(UNIT)
        table = named.Dict("table")
        table["a"].sample_(UNIT)
        table["k"].u.sample_(UNIT)
        return latent, table

    assert names(model) == [
        "latent.x",
        "latent.y.z",
        "latent.foo",
        "latent.parts[0].x",
        "latent.parts[1].x",
        "latent.parts[2]",
        "table['a']",
        "table['k'].u",
    ]
    latent, table = poutine.trace(model).get_trace().nodes["_RETURN"]["value"]
    assert latent.y.z == 1.0 and latent.foo == 1.0 and isinstance(latent.parts[2], torch.Tensor)
    assert isinstance(table["a"], torch.Tensor) and str(table["k"]) == "table['k']"
    with pytest.raises(RuntimeError, match="has a value already"):
        latent.x = 3.0
