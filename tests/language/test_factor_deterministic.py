"""Check `factor`, `deterministic` and `barrier` (behaviours 69-77, 85)."""

import warnings

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine


def test_factor_is_an_observed_site_without_elements():
    trace = poutine.trace(lambda: ember.factor("f", torch.tensor(2.0))).get_trace()
    site = trace.nodes["f"]
    assert site["type"] == "sample" and site["is_observed"]
    assert site["infer"] == {"is_auxiliary": True}
    assert site["value"].shape == (0,)
    assert trace.observation_nodes == ["f"]
    assert trace.log_prob_sum() == 2.0
    assert trace.nodes["_RETURN"]["value"] is None


def test_factor_has_its_batch_shape_and_counts_once_per_element():
    def model():
        ember.factor("alone", torch.ones(4))
        with ember.plate("p", 6, subsample_size=3), poutine.mask(mask=torch.tensor([True, True, False])):
            ember.factor("scalar", torch.tensor(1.0))
            ember.factor("batch", torch.ones(3))

    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["alone"]["log_prob_sum"] == 4.0
    assert trace.nodes["scalar"]["log_prob"].tolist() == [2.0, 2.0, 0.0]
    assert trace.nodes["batch"]["log_prob"].tolist() == [2.0, 2.0, 0.0]


def test_factor_that_does_not_fit_its_plate_is_refused():
    with ember.plate("p", 3), pytest.raises(ValueError, match="at site f dim -1, 3 vs 2"), poutine.trace():
        ember.factor("f", torch.zeros(2))


@pytest.mark.parametrize("given", [True, False])
def test_has_rsample_of_a_factor_is_visible_when_given(given):
    trace = poutine.trace(lambda: ember.factor("f", torch.tensor(1.0), has_rsample=given)).get_trace()
    assert trace.nodes["f"]["fn"].__dict__["has_rsample"] is given
    trace = poutine.trace(lambda: ember.factor("f", torch.tensor(1.0))).get_trace()
    assert "has_rsample" not in trace.nodes["f"]["fn"].__dict__
    assert type(trace.nodes["f"]["fn"]).__name__ == "Unit"


def test_bare_factor_warns_like_an_observation():
    with pytest.warns(RuntimeWarning, match="f"):
        assert ember.factor("f", torch.tensor(1.0)) is None


def test_get_mask_lets_a_model_skip_a_costly_factor():
    assert poutine.get_mask() is None
    with poutine.mask(mask=False):
        assert poutine.get_mask() is False
        with poutine.mask(mask=torch.tensor([True, False])):
            assert poutine.get_mask().tolist() == [False, False]
    with poutine.mask(mask=torch.tensor([True, False])), poutine.mask(mask=True):
        assert poutine.get_mask().tolist() == [True, False]


def test_deterministic_is_a_masked_delta_of_density_zero():
    value = torch.tensor([1.0, 2.0])

    def model():
        with ember.plate("p", 2), poutine.scale(scale=5.0), poutine.mask(mask=torch.tensor([True, False])):
            return ember.deterministic("d", value, event_dim=0)

    trace = poutine.trace(model).get_trace()
    site = trace.nodes["d"]
    assert site["type"] == "sample" and site["is_observed"]
    assert site["infer"] == {"_deterministic": True}
    assert trace.observation_nodes == ["d"]
    assert site["value"] is value and trace.nodes["_RETURN"]["value"] is value
    trace.compute_log_prob()
    assert site["log_prob"].tolist() == [0.0, 0.0]
    assert isinstance(site["fn"].base_dist, dist.Delta)


def test_bare_deterministic_returns_an_equal_tensor_in_silence():
    value = torch.tensor([1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(ember.deterministic("d", value), value)


@pytest.mark.parametrize("value", [1.0, 2, [1.0], None])
def test_deterministic_wants_a_tensor(value):
    with pytest.raises(TypeError, match="deterministic site 'd' needs a tensor") as error:
        ember.deterministic("d", value)
    assert repr(value) in str(error.value) and "torch.as_tensor" in str(error.value)


def test_event_dim_defaults_to_all_dims_of_the_value():
    def model():
        with ember.plate("p", 2):
            ember.deterministic("all", torch.zeros(2))
            ember.deterministic("none", torch.zeros(2), event_dim=0)

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["all"]["fn"].batch_shape == (2,) and trace.nodes["all"]["fn"].event_shape == (2,)
    assert trace.nodes["none"]["fn"].batch_shape == (2,) and trace.nodes["none"]["fn"].event_shape == ()


def test_conditioning_overwrites_a_deterministic_site():
    model = poutine.condition(
        lambda: ember.deterministic("d", torch.tensor(1.0)), data={"d": torch.tensor(5.0)}
    )
    assert model() == 5.0
    assert poutine.trace(model).get_trace().log_prob_sum() == 0.0


def test_barrier_is_the_identity_and_can_be_intercepted():
    data = {"a": [torch.zeros(2), 1], "b": "text"}
    assert ember.barrier(data) is data

    seen = []

    class Look(poutine.Messenger):
        def _pyro_barrier(self, msg):
            seen.append((msg["type"], msg["args"]))

    with Look():
        assert ember.barrier(data) is data
    assert seen == [("barrier", (data,))]
    assert "barrier" not in [
        site["type"] for site in poutine.trace(lambda: ember.barrier(1)).get_trace().nodes.values()
    ]
