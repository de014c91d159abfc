"""Check the sequential plate (behaviours 44, 50, 57, 58)."""

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine


def test_loop_yields_ints_and_adds_no_dim():
    def model():
        kinds = []
        for i in ember.plate("p", 3):
            kinds.append(type(i))
            ember.sample(f"x_{i}", dist.Normal(0.0, 1.0))
        return kinds

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["_RETURN"]["value"] == [int, int, int]
    frames = [trace.nodes[f"x_{i}"]["cond_indep_stack"][0] for i in range(3)]
    assert [tuple(frame) for frame in frames] == [("p", None, 3, counter, 3) for counter in (1, 2, 3)]
    assert not frames[0].vectorized
    assert trace.nodes["x_0"]["value"].shape == ()


def test_tensor_subsample_yields_ints_too():
    values = list(ember.plate("p", 9, subsample=torch.tensor([5, 2])))
    assert values == [5, 2] and all(type(value) is int for value in values)


def test_names_must_differ_between_iterations():
    def model():
        for _ in ember.plate("p", 2):
            ember.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(RuntimeError, match="Multiple sample sites named 'x'"):
        poutine.trace(model).get_trace()


def test_object_may_be_iterated_twice_with_equal_indices():
    plate = ember.plate("p", 100, subsample_size=5)
    first = list(plate)
    assert first == list(plate) and len(set(first)) == 5


def test_once_iterated_a_later_with_is_sequential():
    plate = ember.plate("p", 3)
    list(plate)
    with plate as ind:
        assert ind is None and plate.dim is None
        assert ember.sample("x", dist.Normal(0.0, 1.0)).shape == ()


@pytest.mark.parametrize("how", ["entered", "dim"])
def test_vectorised_plate_cannot_be_iterated(how):
    plate = ember.plate("p", 3, dim=-1 if how == "dim" else None)
    if how == "entered":
        with plate:
            pass
    with pytest.raises(ValueError, match="as both vectorised and sequential") as error:
        list(plate)
    assert "fix:" in str(error.value)


def test_loop_inside_itself_is_refused():
    plate = ember.plate("p", 3)
    iterator = iter(plate)
    next(iterator)
    with pytest.raises(ValueError, match="duplicate plate 'p'"):
        list(plate)
    iterator.close()


def test_plate_without_size_cannot_be_iterated():
    with pytest.raises(ValueError, match="no size to iterate"):
        list(ember.plate("p"))


def test_leaving_the_loop_early_leaves_the_plate():
    for i in ember.plate("p", 5):
        if i == 1:
            break
    assert poutine.runtime.handler_stack() == ()
    with ember.plate("p", 2):
        assert ember.sample("x", dist.Normal(0.0, 1.0)).shape == (2,)


def test_loop_is_scaled_like_a_minibatch():
    def model():
        for i in ember.plate("outer", 10, subsample_size=5):
            for j in ember.plate(f"inner_{i}", 4, subsample_size=2):
                ember.sample(f"x_{i}_{j}", dist.Normal(0.0, 1.0))

    trace = poutine.trace(model).get_trace()
    scales = {site["scale"] for name, site in trace.nodes.items() if name.startswith("x_")}
    assert scales == {4.0}


def test_vectorised_plate_inside_a_loop():
    def model():
        for i in ember.plate("loop", 2):
            with ember.plate(f"batch_{i}", 3):
                ember.sample(f"x_{i}", dist.Normal(0.0, 1.0))

    trace = poutine.trace(model).get_trace()
    assert trace.nodes["x_1"]["value"].shape == (3,)
    assert [frame.dim for frame in trace.nodes["x_1"]["cond_indep_stack"]] == [None, -1]


def test_sequential_and_vectorised_plates_have_one_density():
    data = torch.tensor([0.5, -1.0, 2.0])

    def loop():
        for i in ember.plate("data", 3):
            ember.sample(f"obs_{i}", dist.Normal(0.0, 1.0), obs=data[i])

    def batch():
        with ember.plate("data", 3):
            ember.sample("obs", dist.Normal(0.0, 1.0), obs=data)

    torch.testing.assert_close(
        poutine.trace(loop).get_trace().log_prob_sum(), poutine.trace(batch).get_trace().log_prob_sum()
    )
    direct = torch.distributions.Normal(0.0, 1.0).log_prob(data).sum()
    torch.testing.assert_close(poutine.trace(batch).get_trace().log_prob_sum(), direct)
