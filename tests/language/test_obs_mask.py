"""Check partly observed sites (behaviours 15-22)."""

import warnings

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine

NAN = float("nan")


def masked_model(obs, mask, size=4, infer=None):
    with ember.plate("p", size):
        return ember.sample("x", dist.Normal(0.0, 1.0), obs=obs, obs_mask=mask, infer=infer)


def test_three_sites_and_the_merged_value():
    obs = torch.arange(4.0)
    mask = torch.tensor([True, False, True, False])
    trace = poutine.trace(masked_model).get_trace(obs, mask)
    observed, unobserved, merged = (trace.nodes["x" + end] for end in ("_observed", "_unobserved", ""))
    assert observed["is_observed"] and not unobserved["is_observed"] and merged["is_observed"]
    assert torch.equal(observed["mask"], mask) and torch.equal(unobserved["mask"], ~mask)
    assert merged["infer"] == {"_deterministic": True}
    assert torch.equal(merged["value"], torch.where(mask, obs, unobserved["value"]))
    assert trace.stochastic_nodes == ["p", "x_unobserved"]
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = normal.log_prob(obs)[mask].sum() + normal.log_prob(unobserved["value"])[~mask].sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)


@pytest.mark.parametrize("mask", [torch.tensor(True), torch.tensor([False]), True])
def test_merged_site_has_full_batch_shape_and_true_event_dim(mask):
    def model():
        with ember.plate("p", 3):
            fn = dist.Normal(torch.zeros(2), 1.0).to_event(1)
            return ember.sample("x", fn, obs=torch.zeros(3, 2), obs_mask=mask)

    site = poutine.trace(model).get_trace().nodes["x"]
    assert site["fn"].batch_shape == (3,) and site["fn"].event_shape == (2,)
    assert site["value"].shape == (3, 2)


def test_infer_is_dropped():
    trace = poutine.trace(masked_model).get_trace(torch.zeros(4), torch.tensor(True), infer={"mine": 1})
    assert trace.nodes["x_observed"]["infer"] == {} == trace.nodes["x_unobserved"]["infer"]


def test_mask_without_obs_makes_both_parts_latent():
    trace = poutine.trace(masked_model).get_trace(None, torch.tensor([True, False, True, False]))
    assert trace.stochastic_nodes == ["p", "x_unobserved", "x_observed"]


def test_bare_call_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = ember.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(2.0), obs_mask=torch.tensor(True))
    assert value == 2.0


@pytest.mark.parametrize("mask", [True, False])
def test_python_bools_are_masks(mask):
    value = ember.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(2.0), obs_mask=mask)
    assert bool(value == 2.0) is mask


@pytest.mark.parametrize("mask", [torch.ones(4), 1, "yes"])
def test_mask_of_another_type_is_refused(mask):
    with pytest.raises(ValueError, match="Invalid obs_mask at site 'x'") as error:
        masked_model(torch.zeros(4), mask)
    assert "torch.bool" in str(error.value)


def test_mask_that_does_not_broadcast_shows_both_shapes():
    with pytest.raises(ValueError, match=r"Invalid obs_mask shape \(3,\)") as error:
        masked_model(torch.zeros(4), torch.tensor([True, False, True]))
    text = str(error.value)
    assert "batch shape (4,)" in text and "p(size=4, dim=-1)" in text


def test_mask_with_event_dims_is_refused():
    fn = dist.Normal(torch.zeros(3, 2), 1.0).to_event(1)
    with pytest.raises(ValueError, match=r"Invalid obs_mask shape \(3, 2\)"):
        ember.sample("x", fn, obs=torch.zeros(3, 2), obs_mask=torch.ones(3, 2, dtype=torch.bool))


def test_stochastic_function_with_mask_is_refused():
    with pytest.raises(TypeError, match="obs_mask at site 'x' needs a distribution"):
        ember.sample("x", lambda: torch.zeros(()), obs=torch.zeros(()), obs_mask=torch.tensor(True))


@pytest.mark.parametrize("hidden", [NAN, -1.0])
def test_hidden_entries_may_be_anything(hidden):
    obs = torch.tensor([1.0, hidden])
    mask = torch.tensor([True, False])
    loc = torch.tensor(0.0, requires_grad=True)

    def model():
        with ember.plate("p", 2):
            return ember.sample("x", dist.LogNormal(loc, 1.0), obs=obs, obs_mask=mask)

    total = poutine.trace(model).get_trace().log_prob_sum()
    (gradient,) = torch.autograd.grad(total, loc)
    assert torch.isfinite(total) and torch.isfinite(gradient)


def test_mask_hidden_from_a_plate_by_block_keeps_its_own_shape():
    with ember.plate("p", 3), poutine.block():
        value = ember.sample("x", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0), obs_mask=torch.tensor(True))
    assert value.shape == ()


def test_masked_observation_in_subsampled_plate_scales_both_parts():
    def model():
        with ember.plate("p", 8, subsample_size=4):
            ember.sample(
                "x",
                dist.Normal(0.0, 1.0),
                obs=torch.zeros(4),
                obs_mask=torch.tensor([True, True, False, False]),
            )

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["x_observed"]["scale"] == 2.0 == trace.nodes["x_unobserved"]["scale"]
