"""Check the statement `param` (behaviours 23-35)."""

import gc

import pytest
import torch
from torch.distributions import constraints

import ember
from ember import distributions as dist
from ember import poutine
from ember.errors import MissingParameterError


def test_first_call_fixes_value_and_constraint():
    first = ember.param("a", torch.tensor(2.0), constraint=constraints.positive)
    second = ember.param("a", torch.tensor(-5.0), constraint=constraints.real)
    assert torch.equal(first, second) and first.item() == pytest.approx(2.0)
    assert ember.param("a").item() == pytest.approx(2.0)


def test_missing_initial_value_names_the_parameter_and_leaves_the_store():
    ember.param("known", torch.tensor(1.0))
    with pytest.raises(KeyError) as error:
        ember.param("absent")
    assert isinstance(error.value, MissingParameterError)
    text = str(error.value)
    assert text.startswith("parameter 'absent' has no value")
    assert "expected:" in text and "'known'" in text and "fix:" in text and __file__ in text
    assert list(ember.get_param_store().keys()) == ["known"]
    with pytest.raises(KeyError, match="absent"), poutine.trace():
        ember.param("absent")


def test_init_callable_runs_once():
    calls = []

    def init():
        calls.append(1)
        return torch.ones(2)

    for _ in range(3):
        ember.param("a", init)
    assert len(calls) == 1
    ember.param("b", torch.ones(1))
    ember.param("b", init)
    assert len(calls) == 1


def test_unconstrained_param_is_the_users_own_tensor():
    mine = torch.ones(2)
    returned = ember.param("a", mine)
    assert returned is mine and mine.requires_grad
    assert dict(ember.get_param_store().named_parameters())["a"] is mine
    assert returned.unconstrained() is mine


def test_non_contiguous_init_is_copied():
    mine = torch.ones(2, 3).t()
    leaf = ember.param("a", mine).unconstrained()
    assert leaf is not mine and leaf.is_contiguous() and leaf.is_leaf
    assert not mine.requires_grad


def test_constrained_param_is_new_each_call_over_one_leaf():
    first = ember.param("a", torch.tensor(2.0), constraint=constraints.positive)
    second = ember.param("a")
    assert first is not second
    assert first.unconstrained() is second.unconstrained()
    first.backward()
    assert first.unconstrained().grad.item() == pytest.approx(2.0)


def test_unconstrained_is_a_weak_reference():
    value = ember.param("a", torch.tensor(2.0), constraint=constraints.positive).detach_()
    ember.clear_param_store()
    gc.collect()
    assert value.unconstrained() is None


def test_autograd_graph_keeps_the_leaf_alive():
    value = ember.param("a", torch.tensor(2.0), constraint=constraints.positive)
    ember.clear_param_store()
    gc.collect()
    assert value.unconstrained() is not None


def test_site_of_a_param():
    def model():
        ember.param("a", torch.tensor(2.0), constraint=constraints.positive)
        ember.param("a")
        return ember.param("a", event_dim=0)

    trace = poutine.trace(model).get_trace()
    site = trace.nodes["a"]
    assert site["type"] == "param" and trace.param_nodes == ["a"]
    assert site["args"] == ("a",)
    assert site["kwargs"] == {"constraint": constraints.real, "event_dim": 0}
    assert site["value"].item() == pytest.approx(2.0)
    trace = poutine.trace(lambda: ember.param("b", torch.tensor(1.0))).get_trace()
    assert trace.nodes["b"]["args"] == ("b", torch.tensor(1.0))
    assert trace.nodes["b"]["kwargs"] == {"constraint": constraints.real, "event_dim": None}


def test_subsampled_plate_gives_the_slice_and_keeps_the_whole():
    whole = torch.arange(6.0)

    def model():
        with ember.plate("p", 6, subsample=torch.tensor([4, 1])):
            return ember.param("a", whole, event_dim=0), ember.param("b", torch.zeros(6, 2), event_dim=1)

    trace = poutine.trace(model).get_trace()
    a, b = trace.nodes["_RETURN"]["value"]
    assert a.tolist() == [4.0, 1.0] and b.shape == (2, 2)
    assert trace.nodes["a"]["value"].shape == (6,)
    assert ember.get_param_store()["a"].shape == (6,)
    a.sum().backward()
    assert whole.grad.tolist() == [0, 1, 0, 0, 1, 0]


def test_nothing_is_sliced_without_event_dim():
    with ember.plate("p", 6, subsample_size=2):
        assert ember.param("a", torch.zeros(6)).shape == (6,)


def test_slice_says_which_part_of_the_leaf_it_is():
    indices = torch.tensor([4, 1])
    with ember.plate("p", 6, subsample=indices):
        value = ember.param("a", torch.ones(6, 3), constraint=constraints.positive, event_dim=1)
    leaf = ember.get_param_store()["a"].unconstrained()
    assert not hasattr(value, "unconstrained")
    assert value._pyro_unconstrained_param is leaf
    assert list(leaf._pyro_subsample) == [-2]
    assert torch.equal(leaf._pyro_subsample[-2], indices)


def test_two_plates_each_slice_their_own_dim():
    with ember.plate("y", 5, subsample_size=2, dim=-2), ember.plate("x", 6, subsample_size=3, dim=-1):
        value = ember.param("a", torch.zeros(5, 6, 4), event_dim=1)
        other = ember.param("b", torch.zeros(5, 1), event_dim=0)
    assert value.shape == (2, 3, 4) and other.shape == (2, 1)
    assert set(value._pyro_unconstrained_param._pyro_subsample) == {-2, -3}


def test_wrong_batch_size_is_refused_under_validation():
    def model():
        with ember.plate("plate_name", 6, subsample_size=2, dim=-1):
            return ember.param("a", torch.zeros(5), event_dim=0)

    with ember.validation_enabled(True), pytest.raises(ValueError, match="invalid shape") as error:
        model()
    text = str(error.value)
    assert "plate('plate_name', 6, dim=-1)" in text and "param('a', ..., event_dim=0)" in text
    assert "size 1 or 6 at dim -1" in text and "size 5" in text
    with ember.validation_enabled(False):
        assert model().shape == (5,)


@pytest.mark.parametrize(
    "value, constraint",
    [
        (torch.tensor(-1.0), constraints.positive),
        (torch.tensor([0.5, 0.6]), constraints.simplex),
        (torch.tensor(0.5), constraints.simplex),
        (torch.tensor(2.0), constraints.unit_interval),
        (torch.tensor([1.0, float("nan")]), constraints.positive),
        (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), constraints.lower_cholesky),
    ],
)
def test_value_outside_its_constraint_is_refused_by_name(value, constraint):
    with pytest.raises(ValueError, match="the value of parameter 'a' violates its constraint") as error:
        ember.param("a", value, constraint=constraint)
    assert "expected:" in str(error.value) and "actual:" in str(error.value) and "fix:" in str(error.value)
    assert "a" not in ember.get_param_store()


@pytest.mark.parametrize(
    "constraint, value",
    [
        (constraints.simplex, torch.tensor([0.2, 0.3, 0.5])),
        (constraints.lower_cholesky, torch.tensor([[1.0, 0.0], [0.5, 2.0]])),
        (constraints.independent(constraints.positive, 1), torch.tensor([1.0, 2.0])),
        (constraints.interval(-1.0, 3.0), torch.tensor(0.5)),
        (constraints.greater_than(2.0), torch.tensor(2.5)),
        (constraints.corr_cholesky, torch.eye(3)),
    ],
)
def test_vector_and_scalar_constraints(constraint, value):
    returned = ember.param("a", value, constraint=constraint)
    torch.testing.assert_close(returned, value)
    assert bool(constraint.check(returned).all())
    assert returned.unconstrained().is_leaf


@pytest.mark.parametrize(
    "value, text", [(1.0, "must be a tensor"), (torch.tensor(1), "floating point dtype")]
)
def test_initial_value_of_the_wrong_kind(value, text):
    with pytest.raises(TypeError, match=f"parameter 'a' {text}|parameter 'a' must have a {text}"):
        ember.param("a", value)
    assert len(ember.get_param_store()) == 0


def test_lift_makes_a_param_a_latent_site_that_draws_once():
    def model():
        return ember.param("a", torch.tensor(1.0)), ember.param("a"), ember.param("b", torch.tensor(2.0))

    with poutine.lift(prior={"a": dist.Normal(5.0, 0.1)}):
        trace = poutine.trace(model).get_trace()
    site = trace.nodes["a"]
    first, second, other = trace.nodes["_RETURN"]["value"]
    assert first is second and abs(first - 5.0) < 1.0
    assert other.item() == 2.0 and trace.nodes["b"]["type"] == "param"
    assert "a" not in ember.get_param_store() and "b" in ember.get_param_store()

    lifted = poutine.lift(model, prior={"a": dist.Normal(5.0, 0.1)})
    trace = poutine.trace(lifted).get_trace()
    site = trace.nodes["a"]
    assert site["type"] == "sample" and not site["is_observed"] and site["value"] is not first
    torch.testing.assert_close(
        site["fn"].log_prob(site["value"]), torch.distributions.Normal(5.0, 0.1).log_prob(site["value"])
    )


def test_lift_prior_names_leave_out_the_modules_prefix_and_unused_ones_warn():
    net = torch.nn.Linear(1, 1)
    prior = {"weight": dist.Normal(torch.zeros(1, 1), 1.0).to_event(2), "nowhere": dist.Normal(0.0, 1.0)}
    with pytest.warns(UserWarning, match="nowhere"):
        trace = poutine.trace(poutine.lift(lambda: ember.module("net", net), prior=prior)).get_trace()
    assert trace.nodes["net$$$weight"]["type"] == "sample"
    assert trace.nodes["net$$$bias"]["type"] == "param"


def test_block_substitute_infer_config_and_equalize_see_params():
    def model():
        return ember.param("a", torch.tensor(1.0)), ember.param("b", torch.tensor(2.0))

    assert poutine.trace(poutine.block(model, hide=["a"])).get_trace().param_nodes == ["b"]
    assert poutine.substitute(model, data={"a": torch.tensor(9.0)})()[0] == 9.0
    configured = poutine.infer_config(model, config_fn=lambda site: {"k": site["name"]})
    assert poutine.trace(configured).get_trace().nodes["a"]["infer"] == {"k": "a"}
    a, b = poutine.equalize(model, ["a", "b"], type="param")()
    assert a is b


def test_replayed_params_need_an_unconstrained_attribute():
    def model():
        return ember.param("a", torch.tensor(1.0))

    known = ember.param("other", torch.tensor(3.0))
    assert poutine.replay(model, params={"a": known})() is known
    with pytest.raises(ValueError, match="param 'a' must have an attribute 'unconstrained'"):
        poutine.replay(model, params={"a": torch.tensor(3.0)})()
