"""Check the checks of recorded traces that ``pyro.util`` and ``pyro.infer.util`` offer."""

import importlib.util
import warnings

import pytest
import torch

import ember
import ember.distributions as dist
from ember import poutine
from ember.compat.trace_checks import (
    MultiFrameTensor,
    check_traceenum_requirements,
    check_traces_match,
    save_visualization,
)


def scored(model):
    trace = poutine.trace(model, graph_type="dense").get_trace()
    trace.compute_log_prob()
    return trace


def simple(names=("a", "b"), size=2):
    for name in names:
        with ember.plate(f"plate_{name}", size):
            ember.sample(name, dist.Normal(0.0, 1.0))


def test_equal_traces_match_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_traces_match(scored(simple), scored(simple))


def test_other_sites_warn_and_other_shapes_are_refused():
    with pytest.warns(UserWarning, match="Model vars changed between runs"):
        check_traces_match(scored(simple), scored(lambda: simple(("a",))))
    with pytest.raises(ValueError, match="Site dims disagree at site"):
        check_traces_match(scored(simple), scored(lambda: simple(size=3)))


def local_then_global():
    with ember.plate("data", 2):
        ember.sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
    ember.sample("w", dist.Normal(0.0, 1.0))


def test_global_sites_after_local_enumerated_ones_warn():
    with pytest.warns(UserWarning, match=r"at model site 'w', possibly invalid dependency(?s:.*)'z'"):
        check_traceenum_requirements(scored(local_then_global), scored(lambda: None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_traceenum_requirements(scored(simple), scored(simple))


def test_terms_sum_to_plates():
    trace = scored(simple)
    frames = [trace.nodes[name]["cond_indep_stack"] for name in ("a", "b")]
    terms = MultiFrameTensor((frames[0], torch.tensor([1.0, 2.0])), ((), torch.tensor(10.0)))
    terms.add((frames[1], torch.tensor([100.0, 200.0])))
    assert terms.sum_to(frames[0]).tolist() == [311.0, 312.0]
    assert terms.sum_to(()).item() == 313.0


@pytest.mark.skipif(importlib.util.find_spec("graphviz") is not None, reason="graphviz draws it")
def test_pictures_of_traces_are_deprecated_and_need_graphviz():
    with (
        pytest.warns(FutureWarning, match="use render_model"),
        pytest.raises(ImportError, match="needs the packages graphviz"),
    ):
        save_visualization(scored(simple), "trace")
