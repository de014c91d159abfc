"""Optimisers by name: parity with torch, options, late parameters, clipping, states, schedules."""

import subprocess
import sys

import pytest
import torch

import ember
from ember import optim
from ember.errors import FileFormatError
from ember.params import get_param_store

OPTIONS = {"Muon": {"lr": 0.02}, "SparseAdam": {"lr": 0.05}, "ASGD": {"lr": 0.05}}
NAMES = [name for name in optim.pytorch_optimizers.optimizers if name != "SparseAdam"]


def target(value):
    return ((value - 1.5) ** 2 * torch.tensor([1.0, 3.0])).sum()


def make(names, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [ember.param(name, torch.randn(2, 2, generator=generator)) for name in names]


def one_step(optimizer, params):
    sum(target(param) for param in params).backward()
    optimizer(params)
    for param in params:
        param.grad = None


@pytest.mark.parametrize("name", NAMES)
def test_same_as_the_plain_torch_optimizer(name):
    options = OPTIONS.get(name, {"lr": 0.1})
    ours = make(["a", "b"])
    plain = [param.detach().clone().requires_grad_() for param in ours]
    wrapped = getattr(optim, name)(options)
    torch_optimizer = getattr(torch.optim, name)(plain, **options)
    for _ in range(12):
        one_step(wrapped, ours)
        sum(target(param) for param in plain).backward()
        torch_optimizer.step()
        torch_optimizer.zero_grad()
    start = torch.stack(make(["c", "d"]))
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine.detach(), theirs.detach(), rtol=1e-5, atol=1e-6)
    assert not torch.equal(torch.stack(ours).detach(), start.detach())


def test_clipped_adam_is_adam_when_it_does_not_clip():
    ours, again = make(["a"]), make(["b"])
    clipped, adam = optim.ClippedAdam({"lr": 0.1, "clip_norm": 1e9}), optim.Adam({"lr": 0.1})
    for _ in range(10):
        one_step(clipped, ours)
        one_step(adam, again)
    torch.testing.assert_close(ours[0].detach(), again[0].detach())


def test_clipped_adam_clips_elements_and_decays():
    (param,) = make(["a"])
    start = param.detach().clone()
    optimizer = optim.ClippedAdam(
        {"lr": 0.1, "lrd": 0.5, "clip_norm": 1e-3, "eps": 1e-3, "betas": (0.0, 0.0)}
    )
    for _ in range(2):
        param.grad = torch.full_like(param, 1e6)
        optimizer([param])
    # Each step is rate * g / (|g| + eps) with g clipped to 1e-3: half of the decayed rate.
    torch.testing.assert_close(start - param.detach(), torch.full_like(start, 0.5 * (0.05 + 0.025)))


def test_adagrad_rmsprop_follows_its_formula():
    (param,) = make(["a"])
    optimizer = optim.AdagradRMSProp({"eta": 0.3, "t": 0.2})
    expected, accumulated = param.detach().clone(), None
    for count in range(1, 6):
        grad = torch.full_like(expected, float(count))
        accumulated = grad**2 if accumulated is None else 0.2 * grad**2 + 0.8 * accumulated
        expected = expected - 0.3 * count**-0.5 * grad / (1 + accumulated.sqrt())
        param.grad = grad
        optimizer([param])
    torch.testing.assert_close(param.detach(), expected)


def test_options_by_function_of_one_or_two_names():
    asked = []

    def by_name(name):
        asked.append((name,))
        return {"lr": 0.0 if name == "net.weight" else 0.1}

    def by_module(module_name, param_name):
        asked.append((module_name, param_name))
        return {"lr": 0.0 if module_name == "net" else 0.1}

    for options in (by_name, by_module):
        ember.clear_param_store()
        params = make(["net$$$weight", "a.b"])
        start = [param.detach().clone() for param in params]
        one_step(optim.SGD(options), params)
        assert torch.equal(params[0].detach(), start[0])
        assert not torch.equal(params[1].detach(), start[1])
    assert asked == [("net.weight",), ("a.b",), ("net", "weight"), ("a.b", "a.b")]


def test_parameters_seen_late_or_absent_keep_their_own_state():
    early, late = make(["early", "late"])
    optimizer = optim.Adam({"lr": 0.1})
    plain_early = early.detach().clone().requires_grad_()
    plain_late = late.detach().clone().requires_grad_()
    alone = torch.optim.Adam([plain_early], lr=0.1), torch.optim.Adam([plain_late], lr=0.1)
    for step in range(10):
        ours = [early] if step < 4 else [late] if step < 7 else [early, late]
        for param in (early, late):
            target(param).backward()  # gradients of absent parameters are there, and stay
        optimizer(ours)
        for mine, theirs, single in ((early, plain_early, alone[0]), (late, plain_late, alone[1])):
            assert mine.grad is not None
            mine.grad = None
            if any(mine is each for each in ours):
                single.zero_grad()
                target(theirs).backward()
                single.step()
    torch.testing.assert_close(early.detach(), plain_early.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(late.detach(), plain_late.detach(), rtol=1e-5, atol=1e-6)


def test_equal_options_share_one_torch_optimizer():
    params = make([f"p{index}" for index in range(20)])
    optimizer = optim.Adam(lambda name: {"lr": 0.1 if name < "p3" else 0.2})
    one_step(optimizer, params)
    assert len(optimizer._groups) == 2


@pytest.mark.parametrize("clip, bound", [({"clip_norm": 0.5}, "norm"), ({"clip_value": 0.1}, "value")])
def test_clipping(clip, bound):
    (param,) = make(["a"])
    start = param.detach().clone()
    param.grad = torch.tensor([[30.0, -40.0], [0.0, 0.0]])
    optim.SGD({"lr": 1.0}, clip_args=clip)([param])
    moved = start - param.detach()
    expected = [[0.3, -0.4], [0, 0]] if bound == "norm" else [[0.1, -0.1], [0, 0]]
    torch.testing.assert_close(moved, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def trained(optimizer, params, count):
    for _ in range(count):
        one_step(optimizer, params)
        if optim.is_scheduler(optimizer):
            optimizer.step()


def adam():
    return optim.Adam({"lr": 0.1, "amsgrad": True})


def decayed():
    return optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.8})


@pytest.mark.parametrize("factory", [adam, decayed, lambda: optim.ClippedAdam({"lr": 0.1, "lrd": 0.9})])
def test_save_load_and_resume_exactly(factory, tmp_path):
    params = make(["a", "b"])
    optimizer = factory()
    trained(optimizer, params, 5)
    optimizer.save(tmp_path / "optimizer")
    get_param_store().save(tmp_path / "params")
    trained(optimizer, params, 5)
    expected = [param.detach().clone() for param in params]

    ember.clear_param_store()
    get_param_store().load(tmp_path / "params")
    again = [get_param_store()[name] for name in ("a", "b")]
    resumed = factory()
    resumed.load(tmp_path / "optimizer")
    assert sorted(resumed.get_state()) == ["a", "b"]
    trained(resumed, again, 5)
    for mine, theirs in zip(again, expected, strict=True):
        assert torch.equal(mine.detach(), theirs)


def test_states_of_torch_files_load_without_code(tmp_path):
    params = make(["a"])
    optimizer = adam()
    trained(optimizer, params, 3)
    torch.save(optimizer.get_state(), tmp_path / "old")
    other = adam()
    other.load(tmp_path / "old")
    trained(other, params, 1)
    assert float(other.get_state()["a"]["state"][0]["step"]) == 4


def test_corrupt_files_are_refused_and_change_nothing(tmp_path):
    params = make(["a"])
    optimizer = adam()
    trained(optimizer, params, 2)
    optimizer.save(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(content[: len(content) // 2])
    before = float(optimizer.get_state()["a"]["state"][0]["step"])
    with pytest.raises(FileFormatError, match="cannot read an optimiser's state"):
        optimizer.load(tmp_path / "file")
    assert float(optimizer.get_state()["a"]["state"][0]["step"]) == before


def test_schedules_start_with_their_parameter():
    early, late = make(["early", "late"])
    optimizer = optim.ExponentialLR({"optimizer": torch.optim.SGD, "optim_args": {"lr": 1.0}, "gamma": 0.1})
    one_step(optimizer, [early])
    optimizer.step()
    start = early.detach().clone(), late.detach().clone()
    for param in (early, late):
        param.grad = torch.ones_like(param)
    optimizer([early, late])
    torch.testing.assert_close(start[0] - early.detach(), torch.full_like(early, 0.1))
    torch.testing.assert_close(start[1] - late.detach(), torch.full_like(late, 1.0))


def test_reduce_on_plateau_takes_the_loss():
    (param,) = make(["a"])
    optimizer = optim.ReduceLROnPlateau(
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 1.0}, "patience": 0, "factor": 0.5}
    )
    param.grad = torch.zeros_like(param)
    optimizer([param])
    optimizer.step(1.0)
    optimizer.step(1.0)
    assert optimizer.get_state()["a"]["param_groups"][0]["lr"] == 0.5


def test_refused_options_name_the_parameter():
    params = make(["speed"])
    params[0].grad = torch.zeros(2, 2)
    with pytest.raises(TypeError, match=r"refused its options for parameter 'speed'(.|\n)*learning_rate"):
        optim.Adam({"learning_rate": 0.1})(params)
    with pytest.raises(ValueError, match="refused its options for parameter 'speed'"):
        optim.Adam({"lr": -0.1})(params)
    with pytest.raises(TypeError, match="must be a dict or a function"):
        optim.Adam(0.1)
    with pytest.raises(ValueError, match="clip_args takes clip_norm and clip_value, got norm"):
        optim.Adam({"lr": 0.1}, {"norm": 1.0})
    with pytest.raises(ValueError, match="a scheduler's optim_args miss optimizer"):
        optim.ExponentialLR({"optim_args": {"lr": 0.1}, "gamma": 0.1})


def test_a_replaced_leaf_starts_anew():
    params = make(["a"])
    optimizer = adam()
    trained(optimizer, params, 3)
    get_param_store()["a"] = torch.zeros(2, 2)
    trained(optimizer, [get_param_store()["a"]], 1)
    assert float(optimizer.get_state()["a"]["state"][0]["step"]) == 1
    assert len(optimizer._members) == 1


def test_a_step_does_not_import_the_compiler():
    program = (
        "import sys, torch, ember; p = ember.param('p', torch.zeros(2)); p.grad = torch.ones(2); "
        "ember.optim.Adam({'lr': 0.1})([p]); ember.optim.ExponentialLR({'optimizer': torch.optim.SGD, "
        "'optim_args': {'lr': 0.1}, 'gamma': 0.1})([p]); assert 'torch._dynamo' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_horovod_is_refused_with_the_way_out():
    with pytest.raises(ImportError, match=r"Horovod is not used(.|\n)*data_parallel=True"):
        optim.HorovodOptimizer(optim.Adam({"lr": 0.1}))
