"""Check the statement `sample` (behaviours 1-13)."""

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine

SITE_KEYS = {
    "type",
    "name",
    "fn",
    "is_observed",
    "args",
    "kwargs",
    "value",
    "infer",
    "scale",
    "mask",
    "cond_indep_stack",
    "done",
    "stop",
    "continuation",
}


def test_bare_sample_draws_and_touches_no_state():
    ember.set_rng_seed(3)
    first = ember.sample("x", dist.Normal(0.0, 1.0))
    second = ember.sample("x", dist.Normal(0.0, 1.0))
    ember.set_rng_seed(3)
    assert torch.equal(first, dist.Normal(0.0, 1.0)())
    assert first != second
    assert len(ember.get_param_store()) == 0


@pytest.mark.parametrize("obs", [3, 2.5, torch.ones(2)])
def test_bare_observation_comes_back_itself_with_one_warning(obs):
    with pytest.warns(RuntimeWarning, match="x_site") as caught:
        value = ember.sample("x_site", dist.Normal(0.0, 1.0), obs=obs)
    assert value is obs
    assert len(caught) == 1


class Noisy:
    """A stochastic function with a density that takes the same arguments."""

    def __call__(self, loc, scale=1.0):
        return loc + scale * torch.randn(())

    def log_prob(self, value, loc, scale=1.0):
        return dist.Normal(loc, scale).log_prob(value)


def test_any_callable_may_stand_for_the_distribution():
    fn = Noisy()

    def model():
        return ember.sample("x", fn, 2.0, scale=3.0)

    trace = poutine.trace(model).get_trace()
    site = trace.nodes["x"]
    assert site["args"] == (2.0,) and site["kwargs"] == {"scale": 3.0}
    expected = torch.distributions.Normal(2.0, 3.0).log_prob(site["value"])
    torch.testing.assert_close(trace.log_prob_sum(), expected)
    assert isinstance(ember.sample("y", lambda low: low + 1, 1), int)


def test_site_record_has_exactly_the_14_keys():
    seen = []

    class Look(poutine.Messenger):
        def _pyro_sample(self, msg):
            seen.append(set(msg))

    trace = poutine.trace(Look()(lambda: ember.sample("x", dist.Normal(0.0, 1.0)))).get_trace()
    assert seen == [SITE_KEYS]
    assert set(trace.nodes["x"]) == SITE_KEYS
    site = trace.nodes["x"]
    assert site["type"] == "sample" and site["name"] == "x"
    assert site["scale"] == 1.0 and site["mask"] is None and site["cond_indep_stack"] == ()
    assert site["done"] is True and site["stop"] is False and site["continuation"] is None


def test_third_party_handlers_can_write_the_record():
    class Rewrite(poutine.Messenger):
        def _process_message(self, msg):
            if msg["name"] == "x":
                msg["fn"] = dist.Delta(torch.tensor(7.0))

    with Rewrite():
        assert ember.sample("x", dist.Normal(0.0, 1.0)) == 7.0


def test_callers_infer_dict_is_copied_and_never_none():
    mine = {"enumerate": "parallel"}

    def model():
        ember.sample("x", dist.Normal(0.0, 1.0), infer=mine)
        ember.sample("y", dist.Normal(0.0, 1.0))
        ember.sample("z", dist.Normal(0.0, 1.0))

    with poutine.infer_config(config_fn=lambda site: {"added": 1}):
        trace = poutine.trace(model).get_trace()
    assert mine == {"enumerate": "parallel"}
    assert trace.nodes["x"]["infer"] == {"enumerate": "parallel", "added": 1}
    assert trace.nodes["y"]["infer"] == {"added": 1}
    assert trace.nodes["y"]["infer"] is not trace.nodes["z"]["infer"]


def test_is_observed_false_makes_a_latent_site_with_a_value():
    def model():
        return ember.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(4.0), infer={"is_observed": False})

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["x"]["value"] == 4.0
    assert trace.nodes["x"]["is_observed"] is False
    assert trace.nodes["x"]["infer"] == {}
    assert trace.stochastic_nodes == ["x"]
    assert model() == 4.0  # bare too, without the warning for observations


def test_draws_are_pathwise_and_has_rsample_survives_plates():
    loc = torch.zeros((), requires_grad=True)
    assert ember.sample("x", dist.Normal(loc, 1.0)).requires_grad

    def model():
        with ember.plate("p", 3):
            return ember.sample("x", dist.Normal(loc, 1.0).has_rsample_(False))

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["x"]["fn"].batch_shape == (3,)
    assert trace.nodes["x"]["fn"].has_rsample is False
    assert not trace.nodes["x"]["value"].requires_grad
    assert trace.nonreparam_stochastic_nodes == ["p", "x"]  # the plate draws indices, at a site of its own
    assert trace.reparameterized_nodes == []


def test_plates_expand_the_distribution_never_the_observation():
    data = torch.tensor(0.5)

    def model():
        with ember.plate("p", 3):
            return ember.sample("x", dist.Normal(0.0, 1.0), obs=data)

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["x"]["value"] is data
    trace.compute_log_prob()
    assert trace.nodes["x"]["log_prob"].shape == (3,)
    torch.testing.assert_close(trace.log_prob_sum(), 3 * torch.distributions.Normal(0.0, 1.0).log_prob(data))


def test_plates_stretch_size_one_and_refuse_other_sizes():
    with ember.plate("outer", 4, dim=-2), ember.plate("inner", 3, dim=-1):
        assert ember.sample("x", dist.Normal(torch.zeros(1, 3), 1.0)).shape == (4, 3)
        assert ember.sample("y", dist.Normal(torch.zeros(4, 1), 1.0)).shape == (4, 3)
        with pytest.raises(ValueError, match=r"plate\('inner'\) at site bad dim -1, 3 vs 2") as error:
            ember.sample("bad", dist.Normal(torch.zeros(2), 1.0))
    assert "expected: size 1 or 3" in str(error.value)
    assert "inner(size=3, dim=-1)" in str(error.value)
    assert "fix:" in str(error.value)


def test_batch_dims_left_of_plates_are_allowed_when_sampling():
    with ember.plate("p", 3):
        assert ember.sample("x", dist.Normal(torch.zeros(5, 3), 1.0)).shape == (5, 3)
    assert ember.sample("y", dist.Normal(torch.zeros(5), 1.0)).shape == (5,)


def test_users_distribution_is_not_changed():
    mine = dist.Normal(0.0, 1.0)

    def model():
        with ember.plate("p", 3):
            ember.sample("x", mine)

    trace = poutine.trace(model).get_trace()
    assert mine.batch_shape == ()
    assert trace.nodes["x"]["fn"].batch_shape == (3,)


def test_duplicate_sample_sites_name_both_places():
    def model():
        ember.sample("twice", dist.Normal(0.0, 1.0))
        ember.sample("twice", dist.Normal(0.0, 1.0))

    with pytest.raises(RuntimeError, match="Multiple sample sites named 'twice'") as error:
        poutine.trace(model).get_trace()
    text = str(error.value)
    first = model.__code__.co_firstlineno + 1
    assert f"{__file__}:{first} in model" in text
    assert f"{__file__}:{first + 1} in model" in text
    assert "Trace Shapes:" in text and "twice dist" in text
    assert isinstance(error.value.__cause__, RuntimeError)
    assert "Trace Shapes:" not in str(error.value.__cause__)


@pytest.mark.parametrize(
    "first, second, known",
    [("param", "sample", "param"), ("sample", "param", "sample")],
)
def test_one_name_for_a_param_and_a_sample_is_refused(first, second, known):
    statements = {
        "param": lambda: ember.param("x", torch.tensor(1.0)),
        "sample": lambda: ember.sample("x", dist.Normal(0.0, 1.0)),
    }

    def model():
        statements[first]()
        statements[second]()

    with pytest.raises(RuntimeError, match=f"x is already in the trace as a {known}"):
        poutine.trace(model).get_trace()


def test_errors_under_a_traced_call_get_the_table_and_keep_their_type():
    class Mine(ValueError):
        pass

    original = Mine("something went wrong")

    def model():
        ember.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        raise original

    with pytest.raises(Mine, match="something went wrong") as error:
        poutine.trace(model).get_trace()
    assert "x dist" in str(error.value)
    assert error.value.__cause__ is original


def test_errors_of_other_types_pass_as_they_are():
    def model():
        raise KeyError("k")

    with pytest.raises(KeyError) as error:
        poutine.trace(model).get_trace()
    assert error.value.args == ("k",)


def test_error_with_other_constructor_arguments_keeps_its_own_text():
    def model():
        ember.sample("x", dist.Normal(0.0, 1.0))
        b"\xff".decode("utf-8")

    with pytest.raises(UnicodeDecodeError) as error:
        poutine.trace(model).get_trace()
    assert any("x dist" in note for note in error.value.__notes__)


def test_python_number_as_observation_fails_only_in_the_density():
    def model():
        return ember.sample("x", dist.Normal(0.0, 1.0), obs=0.5)

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["x"]["value"] == 0.5
    with pytest.raises(ValueError, match="site 'x'"):
        trace.log_prob_sum()


def test_obs_none_makes_the_prior_predictive():
    def model(data=None):
        with ember.plate("p", 2):
            return ember.sample("x", dist.Normal(0.0, 1.0), obs=data)

    assert model().shape == (2,)
    trace = poutine.trace(model).get_trace(None)
    assert trace.stochastic_nodes == ["p", "x"]
    assert poutine.trace(model).get_trace(torch.zeros(2)).observation_nodes == ["x"]
