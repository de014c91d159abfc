"""Check steps that run as machine code: the same as eager ones, and eager ones wherever that is needed."""

import copy
import logging
import random

import pytest
import torch
from torch import nn

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.engine.policy import ExecutionError
from ember.engine.statistics import statistics
from ember.infer import (
    SVI,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    config_enumerate,
)
from ember.infer.autoguide import AutoDelta, AutoNormal
from ember.infer.compiled_steps.execution import EAGER_STEPS
from ember.infer.compiled_steps.native import NativeSteps
from ember.params import get_param_store

Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(sigma, y):
    mean = ember.sample("mean", dist.Normal(0.0, 5.0))
    spread = ember.sample("spread", dist.HalfCauchy(5.0))
    with ember.plate("schools", len(sigma)):
        effect = ember.sample("effect", dist.Normal(0.0, 1.0))
        ember.sample("y", dist.Normal(mean + spread * effect, sigma), obs=y)


def values():
    return {name: leaf.detach().clone() for name, leaf in get_param_store().named_parameters()}


def fit(execution, num_steps, make, *args):
    """Take steps from a fresh store; return losses and parameters."""
    ember.clear_param_store()
    ember.set_rng_seed(0)
    svi = make(execution)
    return [svi.step(*args) for _ in range(num_steps)], values(), svi


def is_native(svi):
    return any(isinstance(kind.captured, NativeSteps) for kind in svi._execution._kinds)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optim.Adam({"lr": 0.05}),
        lambda: optim.ClippedAdam({"lr": 0.05, "lrd": 0.99, "clip_norm": 0.5}),
        lambda: optim.SGD({"lr": 0.01, "momentum": 0.9}),
        lambda: optim.Adam(lambda name: {"lr": 0.1 if "mean" in name else 0.01}, {"clip_norm": 0.3}),
    ],
)
def test_steps_are_those_of_eager_execution(optimizer):
    def make(execution):
        return SVI(schools, AutoDelta(schools), optimizer(), Trace_ELBO(), execution=execution)

    eager, expected, _ = fit("eager", 40, make, SIGMA, Y)
    native, found, svi = fit("native", 40, make, SIGMA, Y)
    assert is_native(svi)
    torch.testing.assert_close(native, eager, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_schedules_change_the_rate_without_compiling_again():
    def make(execution):
        adam = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5}
        return SVI(schools, AutoDelta(schools), optim.ExponentialLR(adam), Trace_ELBO(), execution=execution)

    results = {}
    for execution in ("eager", "native"):
        _, _, svi = fit(execution, 5, make, SIGMA, Y)
        compiled = statistics.compilations + statistics.memory_hits + statistics.disk_hits
        for _ in range(4):
            svi.optim.step()
            svi.step(SIGMA, Y)
        assert statistics.compilations + statistics.memory_hits + statistics.disk_hits == compiled
        results[execution] = values()
    torch.testing.assert_close(results["native"], results["eager"], rtol=1e-4, atol=1e-5)


def test_rates_may_be_changed_parameter_by_parameter():
    def make(execution):
        return SVI(schools, AutoDelta(schools), optim.Adam({"lr": 0.1}), Trace_ELBO(), execution=execution)

    results = {}
    for execution in ("eager", "native"):
        _, before, svi = fit(execution, 5, make, SIGMA, Y)
        for index, optimizer in enumerate(svi.optim.optim_objs.values()):
            for group in optimizer.param_groups:
                group["lr"] *= float(index == 0)
        for _ in range(4):
            svi.step(SIGMA, Y)
        results[execution] = values()
        moved = [not torch.equal(value, before[name]) for name, value in results[execution].items()]
        assert moved == [True, False, False]
    torch.testing.assert_close(results["native"], results["eager"], rtol=1e-4, atol=1e-5)


def test_new_data_of_equal_shape_are_read_and_cost_nothing():
    def make(execution):
        return SVI(schools, AutoDelta(schools), optim.Adam({"lr": 0.02}), Trace_ELBO(), execution=execution)

    results = {}
    for execution in ("eager", "native"):
        _, _, svi = fit(execution, 5, make, SIGMA, Y)
        captures = statistics.captures
        results[execution] = [svi.step(SIGMA, Y + shift) for shift in range(5)]
        assert statistics.captures == captures
        changed = Y.clone()
        svi.step(SIGMA, changed)
        changed += 100.0
        results[execution].append(svi.step(SIGMA, changed))
    torch.testing.assert_close(results["native"], results["eager"], rtol=1e-5, atol=1e-5)


def test_auto_begins_eagerly_and_goes_on_natively():
    _, _, svi = fit("auto", EAGER_STEPS, lambda e: _normal_svi(e), Y)
    assert not is_native(svi)
    svi.step(Y)
    assert is_native(svi)


def test_few_eager_steps_are_enough_where_there_are_many_sites():
    def model(y):
        loc = ember.sample("loc", dist.Normal(0.0, 10.0))
        for i in range(170):
            ember.sample(f"y{i}", dist.Normal(loc, 10.0), obs=y[i % 8])

    # About 170 sites count for four times as long: a quarter of the steps.
    _, _, svi = fit(
        "auto", EAGER_STEPS // 4, lambda e: _normal_svi(e, model=model, guide=AutoDelta(model)), Y
    )
    assert not is_native(svi)
    svi.step(Y)
    assert is_native(svi)


def _normal_svi(execution, loss=None, model=None, guide=None):
    def conjugate(y):
        loc = ember.sample("loc", dist.Normal(0.0, 10.0))
        with ember.plate("data", len(y)):
            ember.sample("y", dist.Normal(loc, 10.0), obs=y)

    model = model or conjugate
    loss = loss or Trace_ELBO()
    return SVI(model, guide or AutoNormal(model), optim.Adam({"lr": 0.05}), loss, execution=execution)


def test_a_conjugate_posterior_is_found():
    _, _, svi = fit("native", 2000, lambda e: _normal_svi(e), Y)
    precision = 1 / 100 + len(Y) / 100
    mean = svi.guide.median()["loc"].item()
    assert mean == pytest.approx((Y.sum() / 100 / precision).item(), abs=0.7)
    assert svi.guide.scales.loc.item() == pytest.approx(precision**-0.5, rel=0.15)


def discrete(y):
    z = ember.sample("z", dist.Bernoulli(0.3))
    ember.sample("y", dist.Normal(2.0 * z, 1.0), obs=y)


def discrete_guide(y):
    q = ember.param("q", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
    ember.sample("z", dist.Bernoulli(q))


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceGraph_ELBO, lambda: ReweightedWakeSleep(num_particles=5)])
def test_score_functions_and_discrete_draws_find_the_posterior(loss):
    def make(execution):
        return SVI(discrete, discrete_guide, optim.Adam({"lr": 0.01}), loss(), execution=execution)

    weights = (
        torch.tensor([0.7, 0.3])
        * dist.Normal(torch.tensor([0.0, 2.0]), 1.0).log_prob(torch.tensor(1.5)).exp()
    )
    _, _, svi = fit("native", 3000, make, torch.tensor(1.5))
    assert is_native(svi)
    trail = []
    for _ in range(400):
        svi.step(torch.tensor(1.5))
        trail.append(ember.param("q").item())
    assert sum(trail) / len(trail) == pytest.approx((weights[1] / weights.sum()).item(), abs=0.08)


def test_enumeration_and_minibatches_run_natively():
    data = torch.cat([torch.full((30,), -4.0), torch.full((30,), 4.0)]) + torch.linspace(-1, 1, 60)

    @config_enumerate
    def mixture(data):
        loc = ember.param("loc", torch.tensor([-1.0, 1.0]))
        with ember.plate("data", len(data), subsample_size=20) as index:
            z = ember.sample("z", dist.Categorical(torch.tensor([0.5, 0.5])))
            ember.sample("x", dist.Normal(loc[z], 1.0), obs=data[index])

    def make(execution):
        elbo = TraceEnum_ELBO(max_plate_nesting=1)
        return SVI(mixture, lambda data: None, optim.Adam({"lr": 0.02}), elbo, execution=execution)

    _, found, svi = fit("native", 1000, make, data)
    assert is_native(svi)
    torch.testing.assert_close(found["loc"], torch.tensor([-4.5, 4.5]), atol=0.3, rtol=0)


def test_module_parameters_are_learned_in_place():
    net = nn.Linear(3, 1)
    x = torch.randn(20, 3)
    y = x @ torch.tensor([1.0, -2.0, 0.5])

    def model(x, y):
        ember.module("net", net)
        with ember.plate("data", len(x)):
            ember.sample("y", dist.Normal(net(x).squeeze(-1), 0.1), obs=y)

    def make(execution):
        return SVI(model, lambda x, y: None, optim.Adam({"lr": 0.05}), Trace_ELBO(), execution=execution)

    _, _, svi = fit("native", 600, make, x, y)
    assert is_native(svi)
    torch.testing.assert_close(net.weight[0].detach(), torch.tensor([1.0, -2.0, 0.5]), atol=0.02, rtol=0)


# -- what the program must not bake in ----------------------------------------------------


SCALE = 1.0


class Annealed:
    def __init__(self):
        self.weight = 1.0
        self.history = [1.0]
        self.shift = torch.tensor(0.0)


@pytest.mark.parametrize("where", ["global", "attribute", "list", "tensor", "argument"])
def test_values_around_the_model_that_change_are_seen(where, monkeypatch):
    state = Annealed()

    def model(factor):
        weight = state.weight * SCALE * state.history[0] * factor
        with poutine.scale(scale=weight):
            ember.sample("x", dist.Normal(ember.param("loc", torch.tensor(0.0)), 1.0), obs=Y[0] + state.shift)

    def make(execution):
        return SVI(model, lambda factor: None, optim.SGD({"lr": 1e-6}), Trace_ELBO(), execution=execution)

    def change(factor):
        if where == "global":
            monkeypatch.setitem(globals(), "SCALE", factor)
        elif where == "attribute":
            state.weight = factor
        elif where == "list":
            state.history[0] = factor
        elif where == "tensor":
            state.shift += factor

    losses = {}
    for execution in ("eager", "native"):
        state.__init__()
        monkeypatch.setitem(globals(), "SCALE", 1.0)
        _, _, svi = fit(execution, 4, make, 1.0)
        losses[execution] = []
        for factor in (2.0, 3.0):
            change(factor)
            losses[execution].append(svi.step(factor if where == "argument" else 1.0))
    assert losses["eager"][0] != losses["eager"][1]
    torch.testing.assert_close(losses["native"], losses["eager"], rtol=1e-4, atol=1e-3)


def test_values_that_change_all_the_time_end_machine_code(caplog):
    state = Annealed()

    def model():
        with poutine.scale(scale=state.weight):
            ember.sample("x", dist.Normal(ember.param("loc", torch.tensor(0.0)), 1.0), obs=Y[0])

    ember.clear_param_store()
    svi = SVI(model, lambda: None, optim.SGD({"lr": 1e-6}), Trace_ELBO())
    for _ in range(EAGER_STEPS + 1):
        svi.step()
    assert is_native(svi)
    with caplog.at_level(logging.WARNING, "ember"):
        first = svi.step()
        for step in range(1, 10):
            state.weight = 1.0 + step
            assert svi.step() == pytest.approx((1 + step) * first, rel=1e-3)
    assert not is_native(svi) and "another value of 'state.weight'" in caplog.text


def _side_effect(y, calls=[]):  # noqa: B006 - the side effect
    calls.append(len(calls))
    ember.sample("y", dist.Normal(ember.param("loc", torch.tensor(0.0)), 1.0).expand([8]).to_event(1), obs=y)


def _python_branch(y):
    loc = ember.param("loc", torch.tensor(0.0))
    scale = 1.0 if loc > 0.5 else 2.0
    ember.sample("y", dist.Normal(loc, scale).expand([8]).to_event(1), obs=y)


def _python_draw(y):
    ember.param("loc", torch.tensor(0.0))
    ember.sample("y", dist.Normal(random.random(), 1.0).expand([8]).to_event(1), obs=y)


NUMBERS = iter(range(10**6))


def _generator(y):
    loc = ember.param("loc", torch.tensor(0.0))
    ember.sample("y", dist.Normal(loc, 1.0 + next(NUMBERS)).expand([8]).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_side_effect, "changes the Python value"),
        (_python_branch, "test_native.py:"),
        (_python_draw, "draws from a random number generator"),
        (_generator, "gives other values each time"),
    ],
)
def test_what_a_program_cannot_say_runs_eagerly_and_says_why(model, reason, caplog):
    def make(execution):
        return SVI(model, lambda y: None, optim.Adam({"lr": 0.05}), Trace_ELBO(), execution=execution)

    with pytest.raises(ExecutionError, match=reason):
        fit("native", 5, make, Y)
    with caplog.at_level(logging.WARNING, "ember"):
        _, _, svi = fit("auto", EAGER_STEPS + 5, make, Y)
    assert not is_native(svi)
    assert "SVI runs eagerly" in caplog.text and reason in caplog.text


def test_handlers_and_hooks_see_every_step():
    svi = fit("auto", EAGER_STEPS + 1, lambda e: _normal_svi(e), Y)[2]
    assert is_native(svi)
    with poutine.trace(param_only=True) as recorded:
        svi.step(Y)
    assert "AutoNormal.locs.loc" in recorded.trace.nodes
    seen = []
    for _, leaf in get_param_store().named_parameters():
        leaf.register_hook(seen.append)
    for _ in range(3):
        svi.step(Y)
    assert not is_native(svi) and len(seen) == 2 * 3
    assert all(type(gradient) is torch.Tensor for gradient in seen)
    with pytest.raises(ExecutionError, match="a parameter has hooks"):
        SVI(svi.model, svi.guide, svi.optim, Trace_ELBO(), execution="native").run(5, Y, disable_progbar=True)


def test_a_cleared_store_gets_new_parameters():
    svi = fit("native", 10, lambda e: _normal_svi(e), Y)[2]
    stale = values()
    ember.clear_param_store()
    svi.guide = AutoNormal(svi.model)
    svi = SVI(svi.model, svi.guide, optim.Adam({"lr": 0.05}), Trace_ELBO(), execution="native")
    for _ in range(5):
        svi.step(Y)
    assert values().keys() == stale.keys()
    leaf = get_param_store().leaf("AutoNormal.locs.loc")
    ember.get_param_store()["AutoNormal.locs.loc"] = torch.tensor(50.0)
    svi.step(Y)
    replaced = get_param_store().leaf("AutoNormal.locs.loc")
    assert replaced is not leaf and replaced.item() == pytest.approx(50.0, abs=0.2)


def test_a_loss_that_is_not_finite_leaves_parameters_and_warns():
    def model(y):
        loc = ember.param("loc", torch.tensor(1.0))
        ember.sample("y", dist.Normal(loc, 1.0).expand([8]).to_event(1), obs=y)

    def make(execution):
        return SVI(model, lambda y: None, optim.Adam({"lr": 0.05}), Trace_ELBO(), execution=execution)

    for execution in ("eager", "native"):
        _, before, svi = fit(execution, 5, make, Y)
        with ember.validation_enabled(False), pytest.warns(UserWarning, match="from site 'y'"):
            loss = svi.step(Y * float("nan"))
        assert loss != loss
        assert values() == before
        assert svi.step(Y) == svi.step(Y) or values() != before  # and it goes on


def test_kinds_of_arguments_have_programs_of_their_own():
    svi = fit("native", 4, lambda e: _normal_svi(e), Y)[2]
    for _ in range(4):
        svi.step(Y[:3])
    captures = statistics.captures
    for _ in range(3):
        svi.step(Y)
        svi.step(Y[:3])
    assert statistics.captures == captures
    assert sum(kind.captured is not None for kind in svi._execution._kinds) == 2


def test_sizes_that_the_model_reads_are_part_of_the_program():
    def model(size, y):
        loc = ember.sample("loc", dist.Normal(0.0, 10.0))
        with ember.plate("data", int(size)):
            ember.sample("y", dist.Normal(loc, 10.0), obs=y[: int(size)])

    def make(execution):
        return SVI(model, AutoDelta(model), optim.SGD({"lr": 1e-6}), Trace_ELBO(), execution=execution)

    losses = {}
    for execution in ("eager", "native"):
        _, _, svi = fit(execution, 5, make, torch.tensor(8), Y)
        if execution == "native":
            assert is_native(svi)
        losses[execution] = [svi.step(torch.tensor(size), Y) for size in (8, 3, 3, 3, 8)]
    torch.testing.assert_close(losses["native"], losses["eager"], rtol=1e-4, atol=1e-4)


def test_steps_of_large_matrices_are_left_to_torch_unless_demanded():
    net = nn.Linear(200, 200)
    x = torch.randn(1000, 200)

    def model(x):
        ember.module("net", net)
        with ember.plate("data", len(x)):
            ember.sample("y", dist.Normal(net(x), 1.0).to_event(1), obs=x)

    def make(execution):
        return SVI(model, lambda x: None, optim.Adam({"lr": 0.001}), Trace_ELBO(), execution=execution)

    assert not is_native(fit("auto", EAGER_STEPS + 2, make, x)[2])
    assert is_native(fit("native", 4, make, x)[2])


@pytest.mark.parametrize("loss", [Trace_ELBO, TraceGraph_ELBO])
def test_running_baselines_are_carried_through_machine_code(loss):
    def guide(y):
        q = ember.param("q", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
        ember.sample("z", dist.Bernoulli(q), infer={"baseline": {"use_decaying_avg_baseline": True}})

    objective = loss()

    def make(execution):
        return SVI(discrete, guide, optim.Adam({"lr": 0.001}), objective, execution=execution)

    _, _, svi = fit("native", 10, make, torch.tensor(1.5))
    assert is_native(svi)
    before = objective.baselines.state()["z"].item()
    costs = [-svi.step(torch.tensor(1.5)) for _ in range(3)]
    for cost in costs:
        before = 0.1 * cost + 0.9 * before
    assert objective.baselines.state()["z"].item() == pytest.approx(before, rel=1e-4)


def test_tensors_that_are_not_contiguous_are_read_anew():
    def model(x):
        weight = ember.param("weight", torch.ones(3))
        with ember.plate("data", len(x)):
            ember.sample("y", dist.Normal(x @ weight, 1.0), obs=torch.ones(len(x)))

    def make(execution):
        return SVI(model, lambda x: None, optim.Adam({"lr": 0.01}), Trace_ELBO(), execution=execution)

    results = {}
    for execution in ("eager", "native"):
        data = torch.linspace(-1, 1, 30).reshape(5, 6).t()[:, 1:4]
        assert not data.is_contiguous()
        _, _, svi = fit(execution, 5, make, data)
        results[execution] = []
        for _ in range(3):
            data += 0.5
            results[execution].append(svi.step(data))
    torch.testing.assert_close(results["native"], results["eager"], rtol=1e-4, atol=1e-5)


def test_exchanged_parts_are_used():
    svi = fit("native", 5, lambda e: _normal_svi(e), Y)[2]
    assert is_native(svi)
    svi.model, svi.guide = discrete, discrete_guide
    assert 0 < svi.step(torch.tensor(1.5)) < 5
    svi.optim = optim.SGD({"lr": 1e9})
    before = ember.param("q").item()
    for _ in range(3):
        svi.step(torch.tensor(1.5))
    assert abs(ember.param("q").item() - before) > 0.1


def test_copies_compile_for_themselves():
    svi = fit("native", 5, lambda e: _normal_svi(e), Y)[2]
    other = copy.deepcopy(svi)
    assert is_native(svi) and not is_native(other)


def test_parameters_read_from_the_store_are_seen_to_change():
    def reader():
        scale = get_param_store()["scale"].detach()
        ember.sample("x", dist.Normal(ember.param("loc", torch.tensor(0.0)), 1.0), obs=3.0 * scale)

    ember.clear_param_store()
    ember.param("scale", torch.tensor(1.0))
    svi = SVI(reader, lambda: None, optim.SGD({"lr": 1e-7}), Trace_ELBO(), execution="native")
    losses = [svi.step() for _ in range(4)]
    assert is_native(svi)
    with torch.no_grad():
        get_param_store().leaf("scale").fill_(2.0)
    assert svi.step() - losses[-1] == pytest.approx(0.5 * (36.0 - 9.0), rel=1e-3)
    get_param_store()["scale"] = torch.tensor(0.0)
    assert svi.step() - losses[-1] == pytest.approx(-4.5, rel=1e-3)
