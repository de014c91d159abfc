"""Check the vectorised plate, its dims and its life (behaviours 43-53, 58-60, 98)."""

import pytest
import torch

import ember
from ember import distributions as dist
from ember import poutine
from ember.poutine.plate_messenger import PlateMessenger, block_plate
from ember.poutine.runtime import _DIM_ALLOCATOR as DIM_ALLOCATOR
from ember.poutine.runtime import active_plates, get_plates


def normal(name="x", loc=0.0):
    return ember.sample(name, dist.Normal(loc, 1.0))


def test_context_yields_indices_or_none():
    assert ember.plate is PlateMessenger
    with ember.plate("p", 3) as ind:
        assert ind.dtype == torch.long and ind.tolist() == [0, 1, 2]
    with ember.plate("q") as ind:
        assert ind is None
    with ember.plate_stack("s", (2, 3)) as ind:
        assert ind is None


def test_automatic_dim_is_the_rightmost_free_one():
    with ember.plate("a", 2, dim=-2) as _, ember.plate("b", 3) as _:
        assert [frame.dim for frame in get_plates()] == [-2, -1]
        with ember.plate("c", 4):
            assert get_plates()[-1].dim == -3
            assert normal().shape == (4, 2, 3)


def test_automatic_choice_sticks_to_the_object():
    inner = ember.plate("inner", 3)
    with ember.plate("outer", 2), inner:
        assert inner.dim == -2
    with inner:
        assert normal().shape == (3, 1)
    alone = ember.plate("alone", 3)
    with alone:
        assert alone.dim == -1
    with ember.plate("outer", 2), pytest.raises(ValueError, match="collide at dim=-1"), alone:
        pass


def test_two_plates_on_one_dim_are_refused_with_both_names():
    with ember.plate("first", 2, dim=-1), pytest.raises(ValueError, match="collide at dim=-1") as error:
        with ember.plate("second", 3, dim=-1):
            pass
    text = str(error.value)
    assert "'first'" in text and "'second'" in text and "dim=-2" in text
    assert "expected:" in text and __file__ in text


@pytest.mark.parametrize("dim", [0, 1, 5])
def test_dims_that_are_not_negative_are_refused(dim):
    with pytest.raises(ValueError, match="dim must be negative") as error:
        ember.plate("p", 3, dim=dim)
    assert f"dim={dim}" in str(error.value) and "fix:" in str(error.value)


def test_same_name_nested_and_same_object_twice_are_refused():
    plate = ember.plate("p", 3)
    with plate:
        with pytest.raises(ValueError, match="duplicate plate 'p'"), ember.plate("p", 4, dim=-2):
            pass
        with pytest.raises(ValueError, match="duplicate plate 'p'"), plate:
            pass
        assert normal().shape == (3,)
    with plate:
        assert normal().shape == (3,)


def test_failed_entry_leaves_no_trace():
    clash = ember.plate("clash", 3, dim=-1)
    with ember.plate("p", 2):
        before = (poutine.runtime.handler_stack(), active_plates())
        with pytest.raises(ValueError), clash:
            pass
        assert (poutine.runtime.handler_stack(), active_plates()) == before
        with ember.plate("q", 4):
            assert normal().shape == (4, 2)
    with clash:
        assert normal().shape == (3,)


def test_exception_inside_frees_the_dim():
    with pytest.raises(KeyError), ember.plate("p", 3), ember.plate("q", 2):
        raise KeyError("inside")
    assert active_plates() == []
    with ember.plate("p", 4):
        assert normal().shape == (4,)


def test_exception_in_a_loop_under_a_handler_frees_the_name():
    plates = []

    def model(fail):
        for i in ember.plate("loop", 3):
            normal(f"x_{i}")
            plates.append(get_plates()[0].counter)
            if fail:
                raise KeyError("inside")

    with pytest.raises(KeyError) as error:  # the traceback keeps the abandoned loop alive
        poutine.trace(model).get_trace(True)
    assert active_plates() == []
    assert len(poutine.trace(model).get_trace(False).stochastic_nodes) == 4
    assert error.value.args == ("inside",)
    assert plates == [1, 1, 2, 3]


def test_object_may_be_entered_again():
    def model():
        plate = ember.plate("p", 10, subsample_size=4)
        with plate as first:
            normal("a")
        with plate as second:
            normal("b")
        return first, second

    trace = poutine.trace(model).get_trace()
    first, second = trace.nodes["_RETURN"]["value"]
    assert torch.equal(first, second)
    assert list(trace.nodes) == ["_INPUT", "p", "a", "b", "_RETURN"]
    assert trace.nodes["a"]["cond_indep_stack"] == trace.nodes["b"]["cond_indep_stack"]


def test_two_objects_of_one_name_in_sequence_are_duplicate_sites():
    def model():
        with ember.plate("p", 3):
            normal("a")
        with ember.plate("p", 3):
            normal("b")

    with pytest.raises(RuntimeError, match="Multiple sample sites named 'p'"):
        poutine.trace(model).get_trace()


def test_reusable_crossed_plates_have_the_shapes_of_the_reference():
    x_axis = ember.plate("x_axis", 320, dim=-1)
    y_axis = ember.plate("y_axis", 200, dim=-2)
    with x_axis:
        assert normal("a").shape == (320,)
    with y_axis:
        assert normal("b").shape == (200, 1)
    with x_axis, y_axis:
        assert normal("c").shape == (200, 320)
    with y_axis, x_axis:
        assert normal("d").shape == (200, 320)


def test_plate_is_a_decorator():
    @ember.plate("p", 3)
    def model():
        return normal()

    assert model().shape == (3,)
    assert model().shape == (3,)


def test_frames_are_tuples_and_equality_ignores_the_full_size():
    def model():
        with ember.plate("outer", 10, subsample_size=4, dim=-2), ember.plate("inner", 3):
            normal()

    frames = poutine.trace(model).get_trace().nodes["x"]["cond_indep_stack"]
    assert tuple(frames[0]) == ("outer", -2, 4, 0, 10)
    assert tuple(frames[1]) == ("inner", -1, 3, 0, 3)
    same = frames[0]._replace(full_size=99)
    assert same == frames[0] and hash(same) == hash(frames[0])
    assert frames[0]._replace(size=5) != frames[0]
    assert frames[0].vectorized


def test_plate_without_size_only_claims_a_dim():
    with ember.plate("p") as _:
        assert ember.sample("x", dist.Normal(torch.zeros(7), 1.0)).shape == (7,)
        assert normal("y").shape == ()
        assert get_plates()[0].size == -1
        with ember.plate("q", 2):
            assert ember.sample("z", dist.Normal(torch.zeros(7), 1.0)).shape == (2, 7)


def test_tensor_size_makes_a_tensor_scale():
    def model():
        with ember.plate("p", torch.tensor(10), subsample_size=5):
            normal()

    site = poutine.trace(model).get_trace().nodes["x"]
    assert isinstance(site["scale"], torch.Tensor) and site["scale"] == 2.0
    assert site["fn"].batch_shape == (5,)


def test_plate_made_inside_another_is_in_it_but_its_indices_are_not_broadcast():
    def model():
        with ember.plate("outer", 6, subsample_size=3), ember.plate("inner", 2) as ind:
            return ind

    trace = poutine.trace(model).get_trace()
    site = trace.nodes["inner"]
    assert [frame.name for frame in site["cond_indep_stack"]] == ["outer"]
    assert site["scale"] == 2.0
    assert site["value"].shape == (2,) and trace.nodes["_RETURN"]["value"].shape == (2,)


def test_block_between_plate_and_site_hides_the_plate():
    def model():
        with ember.plate("p", 6, subsample_size=3), poutine.block():
            with poutine.trace() as inner:
                value = normal()
                param = ember.param("a", torch.zeros(6), event_dim=0)
                return value, param, inner.trace.nodes["x"]

    value, param, site = model()
    assert value.shape == () and param.shape == (6,)
    assert site["scale"] == 1.0 and site["cond_indep_stack"] == ()


def test_block_plate_switches_one_plate_off():
    with ember.plate("a", 2), ember.plate("b", 3):
        with block_plate("a"):
            assert normal().shape == (3, 1)
        with block_plate(dim=-2):
            assert normal().shape == (2,)
        assert normal().shape == (3, 2)
        with pytest.raises(ValueError, match="no enclosing plate has name 'c'"), block_plate("c"):
            pass
        with block_plate("c", strict=False):
            assert normal().shape == (3, 2)
    with pytest.raises(ValueError, match="exactly one"), block_plate():
        pass


def test_replayed_sites_inside_a_plate_are_expanded_too():
    recorded = poutine.trace(normal).get_trace()
    recorded.nodes["x"]["value"] = torch.zeros(3)

    def model():
        with ember.plate("p", 3), poutine.replay(trace=recorded):
            normal()

    assert poutine.trace(model).get_trace().nodes["x"]["fn"].batch_shape == (3,)


def test_use_cuda_is_deprecated():
    with pytest.warns(FutureWarning, match="device"):
        plate = ember.plate("p", 3, use_cuda=False)
    with plate as ind:
        assert ind.device.type == "cpu"


def test_device_places_the_indices():
    with ember.plate("p", 3, device="meta") as ind:
        assert ind.device.type == "meta"


def test_nested_plates_stack_lists_the_outermost_first():
    with ember.plate("a", 2), ember.plate("b", 3), ember.plate("c", 4):
        assert [frame.name for frame in get_plates()] == ["a", "b", "c"]
        assert normal().shape == (4, 3, 2)
    assert get_plates() == ()


def test_dims_claimed_by_hand_are_left_free():
    dims = DIM_ALLOCATOR.allocate("hand", None), DIM_ALLOCATOR.allocate("other", -3)
    try:
        assert dims == (-1, -3)
        with ember.plate("x", 2), ember.plate("y", 2):
            assert ember.sample("z", dist.Normal(0.0, 1.0)).shape == (2, 1, 2, 1)
        with pytest.raises(ValueError, match="plates 'other' and 'w' collide at dim=-3"):
            ember.plate("w", 2, dim=-3).__enter__()
        with pytest.raises(ValueError, match="duplicate plate 'hand'"):
            DIM_ALLOCATOR.allocate("hand", None)
        with pytest.raises(ValueError, match="has not claimed dim=-2"):
            DIM_ALLOCATOR.free("hand", -2)
    finally:
        DIM_ALLOCATOR.free("hand", -1)
        DIM_ALLOCATOR.free("other", -3)
    with pytest.raises(ValueError, match="must be negative"):
        DIM_ALLOCATOR.allocate("hand", 0)
    assert active_plates() == []
