"""Guides that do not fit their model, and parameters that do not fit the guide: what is said, and where."""

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim
from ember.infer import SVI, Trace_ELBO
from ember.infer.autoguide import (
    AutoDiagonalNormal,
    AutoGaussian,
    AutoHierarchicalNormalMessenger,
    AutoNormal,
    AutoNormalMessenger,
    AutoStructured,
)


def model(size, minibatch=None):
    with ember.plate("data", size, subsample_size=minibatch):
        z = ember.sample("z", dist.Normal(0.0, 1.0))
        ember.sample("x", dist.Normal(z, 1.0), obs=torch.zeros(minibatch or size))


def step(guide, *args):
    return SVI(model, guide, optim.Adam({"lr": 0.1}), Trace_ELBO()).step(*args)


@pytest.mark.parametrize(
    "guide_class",
    [
        AutoNormal,
        AutoDiagonalNormal,
        AutoStructured,
        AutoGaussian,
        AutoNormalMessenger,
        AutoHierarchicalNormalMessenger,
    ],
)
def test_data_of_another_size_are_refused(guide_class):
    guide = guide_class(model)
    step(guide, 5)
    with pytest.raises(ValueError, match=r"'data'") as refused:
        step(guide, 7)
    assert "7" in str(refused.value) and "5" in str(refused.value)
    step(guide, 5)  # and the guide still works


def test_minibatches_that_disagree_are_refused():
    guide = AutoNormal(model)
    step(guide, 5, 2)
    with pytest.raises(ValueError, match=r"plate 'data'(.|\n)*expected: 3 indices(.|\n)*actual: 2 indices"):
        step(guide, 5, 3)

    def plates(size, minibatch):
        return ember.plate("data", 5, subsample_size=3)

    with pytest.raises(ValueError, match="same subsample_size in the model and the guide"):
        step(AutoNormal(model, create_plates=plates), 5, 2)


def test_parameters_of_another_size_are_refused_by_name(tmp_path):
    AutoNormal(model)(5)
    store = ember.get_param_store()
    store.save(tmp_path / "five")
    state = AutoNormal(model)
    state(5)
    five = state.state_dict()
    ember.clear_param_store()
    guide = AutoNormal(model)
    guide(7)
    with pytest.raises(RuntimeError, match=r"size mismatch for locs\.z_unconstrained"):
        guide.load_state_dict(five)
    ember.clear_param_store()
    store.load(tmp_path / "five")
    with pytest.raises(ValueError, match=r"AutoNormal\.locs\.z(.|\n)*actual: size 5"):
        AutoNormal(model)(7)


def test_values_that_are_not_numbers_are_refused():
    guide = AutoNormal(model)
    guide(5)
    guide.load_state_dict({name: value * torch.nan for name, value in guide.state_dict().items()})
    with pytest.raises(ValueError, match=r"parameter loc(.|\n)*nan at index 0(.|\n)*AutoNormal\.locs\.z"):
        step(guide, 5)


def test_missing_sites_warn_and_wrong_shapes_are_refused():
    with pytest.warns(UserWarning, match="vars in model but not guide: 'z'"):
        step(lambda size: None, 5)

    def event(size):
        ember.sample("z", dist.Normal(torch.zeros(size), 1.0).to_event(1))

    with pytest.raises(ValueError, match="event_dims disagree at site 'z'"):
        step(event, 5)

    def short(size):
        ember.sample("z", dist.Normal(torch.zeros(size - 1), 1.0))

    with pytest.raises(ValueError, match="Shape mismatch inside plate"):
        step(short, 5)
