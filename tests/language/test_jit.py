"""Check `ops.jit.trace` (behaviours 89-97)."""

import argparse
import gc
import warnings
import weakref

import pytest
import torch
from torch.distributions import constraints

import ember
from ember import poutine
from ember.ops import jit


def counted(fn):
    """Count how often Python runs a function."""

    def run(*args, **kwargs):
        run.calls += 1
        return fn(*args, **kwargs)

    run.calls = 0
    return run


def positive_param(name="a", value=2.0):
    return ember.param(name, lambda: torch.full((), value), constraint=constraints.positive)


def test_usable_in_all_forms():
    def double(x):
        return 2 * x

    for compiled in (
        jit.trace(double),
        jit.trace()(double),
        jit.trace(ignore_warnings=True, jit_options={"optimize": False})(double),
        jit.trace(fn=double),
    ):
        assert isinstance(compiled, jit.CompiledFunction)
        assert compiled(torch.tensor(3.0)) == 6.0
        assert compiled.__name__ == "double"


def test_function_runs_twice_then_not_at_all():
    run = counted(lambda x: x + 1)
    compiled = jit.trace(run)
    assert run.calls == 0 and compiled.compiled == {}
    for value in (1.0, 2.0, 3.0):
        assert compiled(torch.tensor(value)) == value + 1
    assert run.calls == 2


def test_key_is_number_of_args_and_kwargs():
    run = counted(lambda *args, k=1: sum(args) * k)
    compiled = jit.trace(run)
    one = torch.tensor(1.0)
    assert compiled(one) == 1.0 and compiled(one, one) == 2.0 and compiled(one, k=3) == 3.0
    assert list(compiled.compiled) == [(1, ()), (2, ()), (1, (("k", 3),))]
    assert run.calls == 6
    compiled(one, k=3)
    assert run.calls == 6
    assert all(isinstance(each, torch.jit.ScriptFunction) for each in compiled.compiled.values())
    assert "graph" in repr(compiled.compiled[(1, ())].graph)


def test_new_shapes_compile_anew_under_the_same_key():
    run = counted(lambda x: x * x.shape[0])
    compiled = jit.trace(run, ignore_warnings=True)
    assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]
    assert compiled(torch.ones(3)).tolist() == [3.0, 3.0, 3.0]
    assert compiled(torch.ones(2)).tolist() == [2.0, 2.0]
    assert run.calls == 4 and list(compiled.compiled) == [(1, ())]


def test_unhashable_kwargs_count_by_content_or_by_id():
    run = counted(lambda x, k: x)
    compiled = jit.trace(run)
    x = torch.tensor(1.0)
    for make in (lambda: [1, {"a": 2}], lambda: {"b": {1, 2}}, lambda: argparse.Namespace(c=[1])):
        before = run.calls
        compiled(x, k=make())
        compiled(x, k=make())
        assert run.calls == before + 2

    class Odd:
        __hash__ = None

    with pytest.warns(UserWarning, match="unhashable keyword argument of type Odd"):
        compiled(x, k=Odd())


@pytest.mark.parametrize("bad", [1, 2.0, None, "text"])
def test_positional_arguments_must_be_tensors(bad):
    with pytest.raises(TypeError, match="must be tensors") as error:
        jit.trace(lambda x: x)(bad)
    assert "pass it by keyword" in str(error.value)


def test_params_are_inputs():
    @jit.trace
    def loss(x):
        return positive_param() * x + ember.param("b", lambda: torch.zeros(()))

    x = torch.tensor(3.0, requires_grad=True)
    assert loss(x).item() == pytest.approx(6.0)
    leaf = ember.param("a").unconstrained()
    with torch.no_grad():
        leaf.fill_(0.0)
    value = loss(x)
    assert value.item() == pytest.approx(3.0)
    value.backward()
    assert leaf.grad.item() == pytest.approx(3.0) and x.grad.item() == pytest.approx(1.0)
    assert ember.param("b").grad == 1.0


def test_training_reaches_the_optimum():
    @jit.trace
    def loss(data):
        return (ember.param("loc", lambda: torch.zeros(())) - data).pow(2).mean()

    data = torch.tensor([1.0, 2.0, 6.0])
    loss(data)
    optimizer = torch.optim.SGD([ember.param("loc")], lr=0.2)
    for _ in range(60):
        optimizer.zero_grad()
        loss(data).backward()
        optimizer.step()
    assert ember.param("loc").item() == pytest.approx(3.0, abs=1e-3)


def test_params_reach_an_enclosing_trace_on_every_call():
    compiled = jit.trace(lambda x: positive_param() * x)
    for _ in range(3):
        with poutine.trace(param_only=True) as recorder:
            compiled(torch.tensor(1.0))
        assert recorder.trace.param_nodes == ["a"]
        assert recorder.trace.nodes["a"]["value"].unconstrained() is ember.param("a").unconstrained()


def test_sample_sites_stay_inside():
    def model(x):
        return ember.sample("z", ember.distributions.Normal(x, 1.0))

    assert poutine.trace(jit.trace(model)).get_trace(torch.tensor(0.0)).stochastic_nodes == []


def test_param_that_comes_later_is_refused():
    run = counted(lambda x: ember.param(f"a_{run.calls}", lambda: torch.ones(())) * x)
    with pytest.raises(NotImplementedError, match="param 'a_2' was not there when") as error:
        jit.trace(run)(torch.tensor(1.0))
    assert "'a_1'" in str(error.value) and "fix:" in str(error.value)


def test_cleared_store_is_a_key_error():
    compiled = jit.trace(lambda x: positive_param() * x)
    compiled(torch.tensor(1.0))
    ember.clear_param_store()
    with pytest.raises(KeyError, match="a"):
        compiled(torch.tensor(1.0))


def test_same_structure_as_the_function():
    @jit.trace
    def fn(x, pair):
        return {"a": x, "b": [pair[0], None, (pair[1], "text")], "c": 3}

    one, two = torch.tensor(1.0), torch.tensor(2.0)
    for _ in range(2):
        result = fn(one, (two, one))
        assert result == {"a": one, "b": [two, None, (one, "text")], "c": 3}
    assert jit.trace(lambda: None)() is None
    assert jit.trace(lambda: torch.tensor(0) + 1, ignore_warnings=True)() == 1
    assert isinstance(jit.trace(lambda x: [x])(one), list)


def test_tracer_warnings_are_silenced_only_on_request():
    def fn(x):
        return x * float(x.sum())

    with pytest.warns(torch.jit.TracerWarning):
        jit.trace(fn)(torch.ones(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jit.trace(fn, ignore_warnings=True)(torch.ones(2))


def test_other_warnings_of_the_function_pass():
    def fn(x):
        warnings.warn("of the user", UserWarning, stacklevel=1)
        return x

    with pytest.warns(UserWarning, match="of the user"):
        jit.trace(fn, ignore_warnings=True)(torch.ones(2))


def test_ignore_jit_warnings():
    def fn(x):
        with jit.ignore_jit_warnings():
            x = x * float(x.sum())
        with jit.ignore_jit_warnings(["Converting a tensor", ("a remark", UserWarning)]):
            warnings.warn("a remark", UserWarning, stacklevel=1)
            return x * float(x.sum())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jit.trace(fn)(torch.ones(2))
    # Run once eagerly, where nothing is silenced, and once by the tracer.
    assert [str(each.message) for each in caught] == ["a remark"]


def test_compile_time_on_request():
    plain = jit.trace(lambda x: x)
    plain(torch.ones(1))
    assert plain.compile_time is None
    timed = jit.trace(lambda x: x, jit_options={"time_compilation": True})
    timed(torch.ones(1))
    assert timed.compile_time > 0


def test_validation_is_off_while_tracing():
    seen = []

    def fn(x):
        seen.append(ember.settings.get("validate_distributions_pyro"))
        return x

    jit.trace(fn)(torch.ones(1))
    assert seen == [True, False]
    assert ember.settings.get("validate_distributions_pyro") is True


def test_plates_and_sliced_params_inside():
    @jit.trace(ignore_warnings=True)
    def fn(x):
        with ember.plate("p", 4, subsample=torch.tensor([3, 1])):
            return ember.param("a", lambda: torch.arange(4.0), event_dim=0) * x

    for _ in range(2):
        assert fn(torch.tensor(2.0)).tolist() == [6.0, 2.0]


def test_no_reference_cycle():
    class Owner:
        pass

    owner = Owner()
    compiled = jit.trace(lambda x: positive_param() * x)
    compiled.owner = owner
    compiled(torch.ones(1))
    gone, held = weakref.ref(compiled), weakref.ref(owner)
    gc.collect()
    gc.disable()
    try:
        del compiled, owner
        assert gone() is None and held() is None
    finally:
        gc.enable()


def test_density_of_a_model_compiled():
    data = torch.tensor([0.5, 1.5])

    def density(z):
        def model():
            x = ember.sample("x", ember.distributions.Normal(0.0, 1.0))
            with ember.plate("p", 2):
                ember.sample("y", ember.distributions.Normal(x, 1.0), obs=data)

        return poutine.trace(poutine.condition(model, data={"x": z})).get_trace().log_prob_sum()

    compiled = jit.trace(density, ignore_warnings=True)
    for z in (0.0, 0.7, -2.0):
        normal = torch.distributions.Normal
        z = torch.tensor(z)
        expected = normal(0.0, 1.0).log_prob(z) + normal(z, 1.0).log_prob(data).sum()
        torch.testing.assert_close(compiled(z), expected)
