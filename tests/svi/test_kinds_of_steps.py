"""Check steps whose arguments change from step to step: schedules of numbers, batches, and resumption."""

import math

import pytest
import torch

import ember
import ember.distributions as dist
from ember import optim, poutine
from ember.engine.statistics import statistics
from ember.infer import SVI, Trace_ELBO
from ember.infer.autoguide import AutoDelta
from ember.infer.compiled_steps.arguments import Arguments
from ember.infer.compiled_steps.execution import EAGER_STEPS
from ember.infer.compiled_steps.kinds import MOST_KINDS

Y = torch.tensor([2.0, -1.0, 0.5, 3.0])


def annealed(y, beta=1.0):
    with poutine.scale(scale=beta):
        loc = ember.sample("loc", dist.Normal(0.0, 2.0))
    with ember.plate("data", len(y)):
        ember.sample("y", dist.Normal(loc, 1.0), obs=y)


def deciding(y, beta):
    loc = ember.sample("loc", dist.Normal(0.0, 2.0 if beta < 0.5 else 1.0))
    with ember.plate("data", len(y)):
        ember.sample("y", dist.Normal(loc, 1.0 + math.exp(-beta)), obs=y)


def schedule(step):
    return min(1.0, 0.1 + step / 40)


def train(model, execution, num_steps, arguments):
    """Return losses, the trained place, and what trained it."""
    ember.clear_param_store()
    ember.set_rng_seed(1)
    svi = SVI(model, AutoDelta(model), optim.Adam({"lr": 0.05}), Trace_ELBO(), execution=execution)
    losses = [svi.step(*args, **kwargs) for args, kwargs in map(arguments, range(num_steps))]
    return losses, ember.param("AutoDelta.loc").detach().clone(), svi


def num_programs(svi):
    return sum(kind.captured is not None for kind in svi._execution._kinds)


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("model", [annealed, deciding])
def test_numbers_that_change_each_step(model, by_name):
    def arguments(step):
        beta = schedule(step)
        return ((Y,), {"beta": beta}) if by_name else ((Y, beta), {})

    captures = statistics.captures
    losses, loc, svi = train(model, "auto", EAGER_STEPS + 30, arguments)
    captures = statistics.captures - captures
    expected, expected_loc, _ = train(model, "eager", EAGER_STEPS + 30, arguments)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loc, expected_loc, rtol=1e-5, atol=1e-5)
    assert num_programs(svi) == (model is annealed)
    assert captures <= 4  # machine code, then torch's kernels, are tried once


def test_a_number_that_settles_gets_a_program_of_its_own():
    losses, loc, svi = train(deciding, "auto", 2 * MOST_KINDS + 40, lambda n: ((Y, min(1.0, n / 60)), {}))
    assert num_programs(svi) == 1
    expected, expected_loc, _ = train(
        deciding, "eager", 2 * MOST_KINDS + 40, lambda n: ((Y, min(1.0, n / 60)), {})
    )
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loc, expected_loc, rtol=1e-5, atol=1e-5)


def test_numbers_of_batches_have_programs_each():
    def model(number):
        loc = ember.sample("loc", dist.Normal(0.0, 2.0))
        ember.sample("y", dist.Normal(loc, 1.0), obs=Y[number])

    losses, _, svi = train(model, "native", 24, lambda step: ((step % 4,), {}))
    expected, _, _ = train(model, "eager", 24, lambda step: ((step % 4,), {}))
    assert num_programs(svi) == 4
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)


def test_a_schedule_is_resumed_where_it_was():
    svi = train(annealed, "native", 8, lambda step: ((Y, schedule(step)), {}))[2]
    state = svi._execution.state()
    again = SVI(annealed, AutoDelta(annealed), optim.Adam({"lr": 0.05}), Trace_ELBO(), execution="native")
    again._execution.set_state(state)
    again.guide(Y)
    kind = again._execution._kinds.find(Arguments((Y, schedule(8)), {}))
    assert kind.arguments.lifts_floats
    assert kind.taken >= 2


@pytest.mark.parametrize("aliased", ["nothing", "the data", "another parameter"])
def test_parameters_that_share_memory_with_something(aliased):
    """Steps change parameters where they are, unless others look there."""

    def run(execution):
        ember.clear_param_store()
        memory = torch.arange(6.0)
        first = torch.nn.Parameter(memory[:3])
        second = torch.nn.Parameter(memory[:3] if aliased == "another parameter" else memory[3:])
        data = memory[:3] if aliased == "the data" else torch.ones(3)
        module = torch.nn.ParameterList([first, second])

        def model(y):
            ember.module("m", module)
            ember.factor("fit", -((first - y * 2.0) ** 2).sum() - ((second + 1.0) ** 2).sum())

        optimizer = optim.SGD({"lr": 0.01, "momentum": 0.5})
        svi = SVI(model, lambda y: None, optimizer, Trace_ELBO(), execution=execution)
        losses = [svi.step(data) for _ in range(EAGER_STEPS + 8)]
        assert first.data_ptr() == memory.data_ptr()
        version = first._version
        losses.append(svi.step(data))
        assert first._version > version or execution == "eager" or aliased == "another parameter"
        return losses, memory

    losses, memory = run("auto")
    expected, expected_memory = run("eager")
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(memory, expected_memory, rtol=1e-5, atol=1e-5)


def test_tensors_as_scales_are_checked_where_handlers_validate():
    with pytest.raises(ValueError, match="Invalid scale"):
        poutine.scale(scale=torch.tensor(-1.0))
    with pytest.raises(ValueError, match="Invalid scale"):
        poutine.scale(scale=0.0)
