"""Check minibatches: drawing, sharing, scaling, slicing data, and plate stacks (behaviours 52-57, 62-68)."""

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine

DATA = torch.arange(100.0)


def minibatch_model(size=100, subsample_size=10, subsample=None):
    with ember.plate("data", size, subsample_size, subsample) as ind:
        ember.sample("obs", dist.Normal(0.0, 1.0), obs=DATA[ind])
        return ind


def test_minibatch_is_drawn_without_replacement_when_made():
    def model():
        plate = ember.plate("data", 100, subsample_size=10)
        with poutine.block(), plate as ind:
            return ind

    trace = poutine.trace(model).get_trace()
    site = trace.nodes["data"]
    assert site["type"] == "sample" and not site["is_observed"]
    assert type(site["fn"]).__name__ == "_Subsample"
    assert site["value"] is trace.nodes["_RETURN"]["value"]
    assert len(set(site["value"].tolist())) == 10 and min(site["value"]) >= 0 and max(site["value"]) < 100
    assert trace.log_prob_sum() == 0.0


def test_plate_is_a_site_without_subsampling_too():
    trace = poutine.trace(lambda: ember.plate("data", 3)).get_trace()
    assert trace.nodes["data"]["value"].tolist() == [0, 1, 2]
    trace = poutine.trace(lambda: ember.plate("nothing")).get_trace()
    assert "nothing" not in trace


def test_every_element_is_drawn_equally_often():
    counts = torch.zeros(6)
    for _ in range(1200):
        counts[list(ember.plate("p", 6, subsample_size=2))] += 1
    # Binomial(1200, 1/3): mean 400, standard deviation 16.3
    assert ((counts - 400).abs() < 5 * 16.4).all()


def test_new_object_draws_anew_and_an_old_one_keeps_its_minibatch():
    assert not torch.equal(minibatch_model(), minibatch_model())
    plate = ember.plate("p", 1000, subsample_size=10)
    with plate as first:
        pass
    with plate as second:
        assert torch.equal(first, second)


def test_model_and_guide_share_indices_through_replay():
    guide = poutine.trace(minibatch_model).get_trace()
    replayed = poutine.trace(poutine.replay(minibatch_model, trace=guide)).get_trace()
    assert torch.equal(replayed.nodes["data"]["value"], guide.nodes["data"]["value"])
    assert torch.equal(replayed.nodes["obs"]["value"], guide.nodes["obs"]["value"])


def test_replayed_indices_win_over_an_explicit_subsample():
    guide = poutine.trace(minibatch_model).get_trace(subsample_size=2)
    ind = poutine.replay(minibatch_model, trace=guide)(subsample_size=None, subsample=torch.tensor([1, 2]))
    assert torch.equal(ind, guide.nodes["data"]["value"])


def test_different_subsample_sizes_of_model_and_guide_are_refused():
    guide = poutine.trace(minibatch_model).get_trace(subsample_size=5)
    with pytest.raises(ValueError, match="does not match the length of its indices") as error:
        poutine.replay(minibatch_model, trace=guide)(subsample_size=7)
    text = str(error.value)
    assert (
        "7 indices" in text
        and "5 indices" in text
        and "same subsample_size in the model and the guide" in text
    )


@pytest.mark.parametrize("subsample", [[3, 1, 4], torch.tensor([3, 1, 4]), (3, 1, 4)])
def test_custom_subsample(subsample):
    def model():
        return minibatch_model(subsample_size=None, subsample=subsample)

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["_RETURN"]["value"].tolist() == [3, 1, 4]
    assert trace.nodes["obs"]["scale"] == pytest.approx(100 / 3)
    assert tuple(trace.nodes["obs"]["cond_indep_stack"][0]) == ("data", -1, 3, 0, 100)


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"size": 10, "subsample_size": 11}, "no larger than the plate"),
        ({"size": 10, "subsample_size": 0}, "non-empty"),
        ({"size": 10, "subsample_size": -1}, "non-empty"),
        ({"size": 2, "subsample": [0, 1, 0]}, "no larger than the plate"),
        ({"size": 10, "subsample": []}, "non-empty"),
        ({"size": 10, "subsample": [1, 2], "subsample_size": 3}, r"does not match len\(subsample\)"),
        ({"subsample_size": 3}, "needs the full size"),
        ({"subsample": [1]}, "needs the full size"),
        ({"size": 0}, "size must be positive"),
        ({"size": -3}, "size must be positive"),
    ],
)
def test_invalid_sizes_are_refused(kwargs, text):
    with pytest.raises(ValueError, match=f"plate 'data': .*{text}") as error:
        ember.plate("data", **kwargs)
    message = str(error.value)
    assert "expected:" in message and "actual:" in message and "fix:" in message and __file__ in message


def test_scales_multiply_over_nested_plates_and_all_kinds_of_sites():
    def model():
        with ember.plate("a", 10, subsample_size=5), ember.plate("b", 4, subsample_size=2):
            ember.sample("x", dist.Normal(0.0, 1.0))
            ember.factor("f", torch.tensor(1.0))
            ember.param("p", torch.tensor(1.0))

    trace = poutine.trace(model).get_trace()
    assert [trace.nodes[name]["scale"] for name in "xfp"] == [4.0, 4.0, 4.0]


def test_scaled_log_prob_estimates_the_whole():
    full = poutine.trace(minibatch_model).get_trace(subsample_size=100).log_prob_sum()
    indices = torch.arange(100).reshape(10, 10)
    parts = [
        poutine.trace(minibatch_model).get_trace(subsample_size=None, subsample=part).log_prob_sum()
        for part in indices
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), full)


def test_names_of_plates_and_sites_share_a_namespace():
    def model():
        ember.sample("data", dist.Normal(0.0, 1.0))
        ember.plate("data", 3)

    with pytest.raises(RuntimeError, match="Multiple sample sites named 'data'"):
        poutine.trace(model).get_trace()


def test_subsample_equals_indexing():
    data = torch.randn(100, 3)
    with ember.plate("data", 100, subsample_size=10) as ind:
        batch = ember.subsample(data, event_dim=1)
        assert torch.equal(batch, data[ind])
        assert torch.equal(ember.subsample(data[:, 0], 0), data[ind, 0])


def test_nothing_to_subsample_gives_the_tensor_itself():
    assert ember.subsample(DATA, event_dim=0) is DATA
    with ember.plate("p", 100):
        assert ember.subsample(DATA, event_dim=0) is DATA
    with ember.plate("q", 100, subsample_size=3):
        one = torch.zeros(1, 2)
        assert ember.subsample(one, event_dim=1) is one
        short = torch.zeros(2)
        assert ember.subsample(short, event_dim=1) is short


def test_each_plate_slices_its_own_dim():
    data = torch.arange(5.0 * 6 * 4).reshape(5, 6, 4)
    with ember.plate("y", 5, subsample=[3, 1], dim=-2) as y, ember.plate("x", 6, subsample=[0, 5, 2]) as x:
        assert torch.equal(ember.subsample(data, event_dim=1), data[y][:, x])
        assert ember.subsample(data[:, :1], event_dim=1).shape == (2, 1, 4)


@pytest.mark.parametrize("subsample_size", [None, 10])
def test_wrong_size_is_refused_even_without_subsampling(subsample_size):
    with ember.validation_enabled(True), ember.plate("data", 100, subsample_size):
        with pytest.raises(ValueError, match="invalid shape") as error:
            ember.subsample(torch.zeros(99), event_dim=0)
    text = str(error.value)
    assert "plate('data', 100, dim=-1)" in text and "(99,)" in text and "size 1 or 100" in text


@pytest.mark.parametrize("event_dim, kind", [(-1, ValueError), (1.0, TypeError), (None, TypeError)])
def test_wrong_event_dim_is_refused(event_dim, kind):
    with pytest.raises(kind, match="event_dim"):
        ember.subsample(DATA, event_dim)


def test_plate_stack_reads_left_to_right_and_is_named_from_the_right():
    def model():
        with ember.plate_stack("s", (4, 3, 2)):
            ember.sample("x", dist.Normal(0.0, 1.0))
        with ember.plate_stack("t", (5, 6), rightmost_dim=-2):
            ember.sample("y", dist.Normal(0.0, 1.0))

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["x"]["value"].shape == (4, 3, 2)
    frames = {frame.name: (frame.dim, frame.size) for frame in trace.nodes["x"]["cond_indep_stack"]}
    assert frames == {"s_0": (-1, 2), "s_1": (-2, 3), "s_2": (-3, 4)}
    assert trace.nodes["y"]["value"].shape == (5, 6, 1)


@pytest.mark.parametrize("dim", [0, 2])
def test_plate_stack_needs_a_negative_dim(dim):
    with pytest.raises(ValueError, match="rightmost_dim must be negative"), ember.plate_stack("s", (2,), dim):
        pass


def test_plate_stack_unwinds_after_a_collision():
    with ember.plate("p", 3, dim=-2):
        with pytest.raises(ValueError, match="collide"), ember.plate_stack("s", (2, 2)):
            pass
        assert ember.sample("x", dist.Normal(0.0, 1.0)).shape == (3, 1)
