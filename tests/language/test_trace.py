"""Check `Trace`: nodes, edges, densities, shapes as text, copies (behaviours 108, 11)."""

import copy
import pickle

import pytest
import torch
from torch.distributions import constraints

import ember
from ember import distributions as dist
from ember import poutine
from ember.poutine import Trace


def model(n=3):
    weight = ember.param("weight", torch.ones(n, 2))
    with ember.plate("batch", n):
        x = ember.sample("x", dist.Normal(weight, 1.0).to_event(1))
        return ember.sample("y", dist.Normal(x.sum(-1), 1.0), obs=torch.zeros(n))


def test_input_and_return_are_nodes_only_if_a_function_was_called():
    trace = poutine.trace(model).get_trace(n=4)
    assert list(trace) == ["_INPUT", "weight", "batch", "x", "y", "_RETURN"] and len(trace) == 6
    assert trace.nodes["_INPUT"]["args"] == () and trace.nodes["_INPUT"]["kwargs"] == {"n": 4}
    with poutine.trace() as recorder:
        model(4)
    assert list(recorder.trace) == ["weight", "batch", "x", "y"]
    assert list(recorder.get_trace()) == list(recorder.trace)


def test_trace_starts_afresh_and_copies_are_shallow():
    traced = poutine.trace(model)
    first, second = traced.get_trace(), traced.get_trace()
    assert first is not second and first.nodes["x"] is not second.nodes["x"]
    assert list(first) == list(second)
    again = traced.trace
    third = again.copy()
    third.nodes["x"]["mark"] = 1
    assert "mark" not in again.nodes["x"] and third.nodes["x"]["value"] is again.nodes["x"]["value"]


def test_kinds_of_nodes():
    trace = poutine.trace(model).get_trace()
    assert trace.param_nodes == ["weight"]
    assert trace.stochastic_nodes == ["batch", "x"]
    assert trace.observation_nodes == ["y"]
    assert trace.reparameterized_nodes == ["x"] and trace.nonreparam_stochastic_nodes == ["batch"]
    assert [name for name, _ in trace.iter_stochastic_nodes()] == ["batch", "x"]


def test_densities():
    trace = poutine.trace(poutine.scale(model, scale=2.0)).get_trace()
    x = trace.nodes["x"]["value"]
    normal = torch.distributions.Normal
    log_x, log_y = normal(1.0, 1.0).log_prob(x).sum(-1), normal(x.sum(-1), 1.0).log_prob(torch.zeros(3))
    torch.testing.assert_close(trace.log_prob_sum(lambda name, site: name == "x"), 2 * log_x.sum())
    assert "log_prob" not in trace.nodes["y"]
    trace.compute_log_prob()
    torch.testing.assert_close(trace.nodes["y"]["unscaled_log_prob"], log_y)
    torch.testing.assert_close(trace.nodes["y"]["log_prob"], 2 * log_y)
    torch.testing.assert_close(trace.nodes["y"]["log_prob_sum"], 2 * log_y.sum())
    trace.compute_score_parts()
    parts = trace.nodes["x"]["score_parts"]
    torch.testing.assert_close(parts.log_prob, 2 * log_x)
    assert parts.score_function == 0
    assert Trace().log_prob_sum() == 0.0


def test_detach():
    trace = poutine.trace(model).get_trace()
    assert trace.nodes["x"]["value"].requires_grad
    trace.detach_()
    assert not trace.nodes["x"]["value"].requires_grad


def test_table_of_shapes():
    trace = poutine.trace(model).get_trace()
    expected = """
Trace Shapes:
 Param Sites:
       weight 3 2
Sample Sites:
   batch dist     |
        value   3 |
       x dist   3 | 2
        value   3 | 2
       y dist   3 |
        value   3 |
"""
    assert [line.split() for line in trace.format_shapes().splitlines()] == [
        line.split() for line in expected.strip().splitlines()
    ]
    lines = trace.format_shapes().splitlines()
    assert len({line.index("|") for line in lines if "|" in line}) == 1
    assert all(line == line.rstrip() for line in lines)
    trace.compute_log_prob()
    short = trace.format_shapes("Title:", last_site="x")
    assert short.lstrip().startswith("Title:") and "log_prob" in short and "y dist" not in short
    assert Trace().format_shapes() == "Trace Shapes:"


def test_table_of_a_crossed_model_is_aligned():
    def crossed():
        with ember.plate("rows", 10, dim=-2), ember.plate("columns", 200, dim=-1):
            ember.sample("x", dist.Normal(torch.zeros(5), 1.0).to_event(1))

    text = poutine.trace(crossed).get_trace().format_shapes()
    assert text == "\n".join(
        [
            "Trace Shapes:",
            " Param Sites:",
            "Sample Sites:",
            "    rows dist        |",
            "        value     10 |",
            " columns dist        |",
            "        value    200 |",
            "       x dist 10 200 | 5",
            "        value 10 200 | 5",
        ]
    )


def test_locations_are_known_under_validation_only():
    trace = poutine.trace(model).get_trace()
    line = model.__code__.co_firstlineno
    assert trace.locations["weight"] == f"{__file__}:{line + 1} in model"
    assert trace.locations["x"] == f"{__file__}:{line + 3} in model"
    with ember.validation_enabled(False):
        assert poutine.trace(model).get_trace().locations == {}


def test_edges_of_dense_traces():
    def program():
        with ember.plate("p", 2):
            ember.sample("a", dist.Normal(0.0, 1.0))
        for i in ember.plate("loop", 2):
            ember.sample(f"b_{i}", dist.Normal(0.0, 1.0))

    trace = poutine.trace(program, graph_type="dense").get_trace()
    assert ("a", "b_0") in trace.edges and ("b_0", "b_1") not in trace.edges
    assert list(trace.successors("a")) == ["loop", "b_0", "b_1"]
    assert "a" in list(trace.predecessors("b_1"))
    assert trace.topological_sort(reverse=True) == list(trace)[::-1]
    trace.remove_node("b_0")
    assert "b_0" not in trace and all("b_0" not in edge for edge in trace.edges)
    with pytest.raises(ValueError, match="graph_type"):
        Trace("round")


def test_param_only():
    assert poutine.trace(model, param_only=True).get_trace().param_nodes == ["weight"]
    assert poutine.trace(model, param_only=True).get_trace().stochastic_nodes == []


def picklable():
    with ember.plate("p", 4, subsample_size=2):
        scale = ember.param("s", torch.ones(4), constraints.positive, event_dim=0)
        ember.sample("x", dist.Normal(0.0, scale.detach()).mask(True))
    ember.factor("f", torch.tensor(1.0))
    return ember.deterministic("d", torch.tensor(2.0))


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_traces_pickle_and_deep_copy(how):
    trace = poutine.trace(picklable).get_trace()
    expected = trace.log_prob_sum()
    copied = pickle.loads(pickle.dumps(trace)) if how == "pickle" else copy.deepcopy(trace)
    assert list(copied) == list(trace) and copied.locations == trace.locations
    assert torch.equal(copied.nodes["x"]["value"], trace.nodes["x"]["value"])
    assert copied.nodes["x"]["value"] is not trace.nodes["x"]["value"]
    assert copied.nodes["x"]["cond_indep_stack"] == trace.nodes["x"]["cond_indep_stack"]
    torch.testing.assert_close(copied.log_prob_sum(), expected)
    for site in copied.nodes.values():
        site.pop("log_prob_sum", None)
    torch.testing.assert_close(copied.log_prob_sum(), expected.detach())
    assert copied.format_shapes() == trace.format_shapes()


@poutine.scale(scale=3.0)
def module_level():
    return ember.sample("x", dist.Normal(0.0, 1.0))


def test_wrapped_functions_pickle():
    assert pickle.loads(pickle.dumps(module_level)) is module_level
    wrapped = poutine.condition(module_level, data={"x": torch.tensor(4.0)})
    assert pickle.loads(pickle.dumps(wrapped))() == 4.0
    traced = pickle.loads(pickle.dumps(poutine.trace(model)))
    assert list(traced.get_trace()) == list(poutine.trace(model).get_trace())
