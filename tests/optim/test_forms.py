"""Schedulers beside torch's own, sparse gradients, clipping by name, late parameters, refused options."""

import pytest
import torch

import ember
from ember import optim
from ember.params import get_param_store

SCHEDULES = {
    "ChainedScheduler": None,  # these three take schedulers of an optimiser that does not exist yet
    "SequentialLR": None,
    "LRScheduler": None,  # torch's abstract base
    "LambdaLR": {"lr_lambda": lambda count: 0.5**count},
    "MultiplicativeLR": {"lr_lambda": lambda count: 0.5},
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 3]},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.7},
    "PolynomialLR": {},
    "CosineAnnealingLR": {"T_max": 4},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 10},
    "ReduceLROnPlateau": {"patience": 0},
}


def step(optimizer, *params):
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer(params)


def test_all_schedulers_are_known():
    assert set(optim.pytorch_optimizers.schedulers) <= set(SCHEDULES) | {"SWALR"}


@pytest.mark.parametrize("name", [name for name, options in SCHEDULES.items() if options is not None])
def test_schedules_are_those_of_torch(name, tmp_path):
    adam = {"lr": 0.1, "momentum": 0.9}
    options = {"optimizer": torch.optim.SGD, "optim_args": adam, **SCHEDULES[name]}
    ours, param = getattr(optim, name)(options), ember.param("p", torch.zeros(3))
    plain = torch.zeros(3, requires_grad=True)
    theirs = torch.optim.SGD([plain], **adam)
    schedule = getattr(torch.optim.lr_scheduler, name)(theirs, **SCHEDULES[name])
    figures = (1.0,) if name == "ReduceLROnPlateau" else ()
    for count in range(6):
        step(ours, param)
        ours.step(*figures)
        plain.grad = torch.ones_like(plain)
        theirs.step()
        schedule.step(*figures)
        if count == 2 and name not in ("LambdaLR", "MultiplicativeLR"):  # functions do not go into files
            ours.save(tmp_path / "schedule")
            ours = getattr(optim, name)(options)
            ours.load(tmp_path / "schedule")
    torch.testing.assert_close(param.detach(), plain.detach())
    assert ours.get_state()["p"]["param_groups"][0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"])


def test_sparse_gradients():
    embedding = torch.nn.Embedding(5, 2, sparse=True)
    ember.module("net", embedding)
    plain = torch.nn.Embedding(5, 2, sparse=True)
    plain.load_state_dict(embedding.state_dict())
    ours, theirs = optim.SparseAdam({"lr": 0.1}), torch.optim.SparseAdam(plain.parameters(), lr=0.1)
    for rows in ([1, 2], [2, 4]):
        for each in (embedding, plain):
            each(torch.tensor(rows)).square().sum().backward()
        ours([embedding.weight])
        theirs.step()
        for each in (embedding, plain):
            each.weight.grad = None
    torch.testing.assert_close(embedding.weight.detach(), plain.weight.detach())


def test_clipping_and_options_by_name():
    params = [ember.param(name, torch.zeros(2)) for name in ("net$$$weight", "bias")]
    bound = lambda module, name: {"clip_value": 0.5 if name == "weight" else 2.0}  # noqa: E731
    step(optim.SGD(lambda name: {"lr": 1.0 if name == "net.weight" else 0.1}, bound), *params)
    assert params[0].tolist() == [-0.5, -0.5]
    torch.testing.assert_close(params[1].detach(), torch.tensor([-0.1, -0.1]))


@pytest.mark.parametrize("form", [optim.ClippedAdam, optim.AdagradRMSProp, optim.DCTAdam])
def test_own_optimisers_take_options_by_name_clipping_and_late_parameters(form, tmp_path):
    rate = "eta" if form is optim.AdagradRMSProp else "lr"
    early = ember.param("early", torch.zeros(4))
    optimizer = form(lambda name: {rate: 0.1 if name == "early" else 0.0}, {"clip_norm": 0.1})
    step(optimizer, early)
    late = ember.param("late", torch.zeros(4))
    step(optimizer, early, late)
    assert (early < 0).any() and not late.any()
    optimizer.save(tmp_path / "optimizer")
    other = form({rate: 0.1})
    other.load(tmp_path / "optimizer")
    assert sorted(other.get_state()) == ["early", "late"]


def test_refused_schedules_name_the_parameter():
    param = ember.param("speed", torch.zeros(2))
    sgd = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.1}}
    with pytest.raises(TypeError, match=r"scheduler refused its options for parameter 'speed'(.|\n)*gama"):
        step(optim.ExponentialLR({**sgd, "gama": 0.1}), param)
    with pytest.raises(ValueError, match="scheduler refused its options for parameter 'speed'"):
        step(optim.OneCycleLR({**sgd, "max_lr": 0.1}), param)
    with pytest.raises(ValueError, match="scheduler refused its options for parameter 'speed'"):
        step(optim.LRScheduler(sgd), param)
    with pytest.raises(TypeError, match=r"options for parameter 'speed' are no dict"):
        step(optim.Adam(lambda name: 0.1), param)


def test_loaded_parameters_are_inside_the_programs_constraint(tmp_path):
    positive = ember.distributions.constraints.positive
    store = get_param_store()
    ember.param("scale", torch.tensor([0.5, -1.0]))
    ember.param("other", torch.tensor([0.5, 1.0]))
    ember.param("gap", torch.tensor([float("nan"), 1.0]))
    store.save(tmp_path / "params")
    ember.clear_param_store()
    store.load(tmp_path / "params")
    for _ in range(2):  # asking once more does not help
        with pytest.raises(ValueError, match=r"loaded value of parameter 'scale'(.|\n)*under Real"):
            ember.param("scale", torch.ones(2), constraint=positive)
    assert ember.param("other", torch.ones(2), constraint=positive).tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="loaded value of parameter 'gap'"):
        ember.param("gap", torch.ones(2))
    del store["scale"]
    assert ember.param("scale", torch.ones(2), constraint=positive).tolist() == [1.0, 1.0]
    # Setting a value that the constraint allows ends the matter, too.
    store["gap"] = torch.zeros(2)
    assert ember.param("gap").tolist() == [0.0, 0.0]
