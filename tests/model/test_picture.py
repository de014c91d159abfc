"""Check what depends on what in a model, and the pictures drawn of it."""

import importlib.util

import pytest
import torch

import ember
import ember.distributions as dist
from ember.infer.inspect import get_dependencies, get_model_relations, render_model
from ember.model.dependencies import follow
from ember.ops.indexing import Vindex


def pair():
    a = ember.sample("a", dist.Normal(0.0, 1.0))
    ember.sample("b", dist.Normal(a, 1.0), obs=torch.tensor(0.0))


def collider():
    a = ember.sample("a", dist.Normal(0.0, 1.0))
    b = ember.sample("b", dist.Normal(0.0, 1.0))
    c = ember.sample("c", dist.Normal(a + b, 1.0))
    ember.sample("d", dist.Normal(c, 1.0), obs=torch.tensor(0.0))


def summed_plate():
    with ember.plate("p", 5):
        a = ember.sample("a", dist.Normal(0.0, 1.0))
    ember.sample("b", dist.Normal(a.sum(), 1.0), obs=torch.tensor(0.0))


NONE = set()


@pytest.mark.parametrize(
    "model, prior, posterior",
    [
        (pair, {"a": {"a": NONE}, "b": {"a": NONE, "b": NONE}}, {"a": {"a": NONE, "b": NONE}}),
        (
            collider,
            {
                "a": {"a": NONE},
                "b": {"b": NONE},
                "c": {"a": NONE, "b": NONE, "c": NONE},
                "d": {"c": NONE, "d": NONE},
            },
            {
                "a": {"a": NONE, "b": NONE, "c": NONE},
                "b": {"b": NONE, "c": NONE},
                "c": {"c": NONE, "d": NONE},
            },
        ),
        (summed_plate, {"a": {"a": NONE}, "b": {"a": NONE, "b": NONE}}, {"a": {"a": {"p"}, "b": NONE}}),
    ],
)
def test_dependencies(model, prior, posterior):
    assert get_dependencies(model) == {"prior_dependencies": prior, "posterior_dependencies": posterior}


def test_observed_sites_may_be_listed():
    found = get_dependencies(pair, include_obs=True)["posterior_dependencies"]
    assert found == {"a": {"a": NONE, "b": NONE}, "b": {"b": NONE}}


def test_relations_of_a_model():
    def model(y):
        scale = ember.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        a = ember.sample("a", dist.Normal(0.0, 1.0))
        with ember.plate("n", 4):
            b = ember.sample("b", dist.Normal(a, scale).expand([3]).to_event(1))
            c = ember.deterministic("c", b.sum(-1), event_dim=0)
            ember.sample("y", dist.Laplace(c, 1.0), obs=y)

    assert get_model_relations(model, (torch.zeros(4),)) == {
        "sample_sample": {"a": [], "b": ["a"], "c": ["b"], "y": ["c"]},
        "sample_param": {"a": [], "b": ["scale"], "c": [], "y": []},
        "sample_dist": {"a": "Normal", "b": "Normal", "c": "Deterministic", "y": "Laplace"},
        "param_constraint": {"scale": str(dist.constraints.positive)},
        "plate_sample": {"n": ["b", "c", "y"]},
        "observed": ["c", "y"],
    }


def parents(model, *args, **kwargs):
    return {name: set(site.parents) for name, site in follow(model, args, **kwargs).items()}


def test_discrete_sites_indexing_and_in_place_writes_are_followed():
    def model():
        z = ember.sample("z", dist.Categorical(torch.ones(3)))
        loc = ember.sample("loc", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        table = torch.zeros(2)
        table[1] = ember.sample("w", dist.Exponential(1.0))
        ember.sample("x", dist.Normal(Vindex(loc)[z], table[1].exp()))
        ember.sample("alone", dist.Poisson(torch.tensor(2.0)))

    assert parents(model) == {"z": set(), "loc": set(), "w": set(), "x": {"z", "loc", "w"}, "alone": set()}


def test_deterministic_sites_are_looked_through_or_listed():
    def model():
        a = ember.sample("a", dist.Normal(0.0, 1.0))
        b = ember.deterministic("b", a)
        ember.factor("c", -b)
        ember.sample("d", dist.Delta(a))

    assert parents(model) == {"a": set(), "c": {"a"}, "d": {"a"}}
    assert parents(model, with_deterministic=True) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"a"}}


def test_random_state_and_handlers_are_left_alone():
    state = torch.get_rng_state()
    with ember.poutine.trace() as recorder:
        get_dependencies(collider)
    assert not recorder.trace.nodes and torch.equal(torch.get_rng_state(), state)


def crossed(n):
    scale = ember.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
    rows, columns = ember.plate("rows", n, dim=-1), ember.plate("columns", 3, dim=-2)
    with rows:
        r = ember.sample("r", dist.Normal(0.0, scale))
    with columns:
        c = ember.sample("c", dist.Normal(0.0, 1.0))
    with rows, columns:
        ember.sample("x", dist.Normal(r + c, 1.0), obs=torch.zeros(3, n))


def test_plates_that_cross():
    source = render_model(crossed, (4,), render_params=True, render_distributions=True).source
    assert source.count('label="rows (4)"') == 2 and source.count('label="columns (3)"') == 1
    for line in ('"scale" -> "r"', '"r" -> "x"', '"c" -> "x"', "x ~ Normal", "fillcolor=gray"):
        assert line in source
    assert '"scale" ->' not in render_model(crossed, (4,)).source


def test_several_arguments_make_several_pictures():
    source = render_model(crossed, [(4,), (5,)]).source
    assert '"0/r" -> "0/x"' in source and '"1/r" -> "1/x"' in source and "rows (5)" in source


def test_text_files_need_no_other_package(tmp_path):
    picture = ember.render_model(pair, filename=str(tmp_path / "model.dot"))
    assert (tmp_path / "model.dot").read_text() == picture.source


@pytest.mark.skipif(importlib.util.find_spec("graphviz") is not None, reason="graphviz draws it")
def test_images_without_graphviz_are_refused(tmp_path):
    with pytest.raises(ImportError, match="needs the packages graphviz"):
        render_model(pair, filename=str(tmp_path / "model.pdf"))
