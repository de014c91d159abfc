"""Tabulate what is said of params: without value, outside their constraint, in plates, of modules."""

import pytest
import torch
from table import PASSES, Row, check, each, inside, judge, normal, over, plate, raises, warns

import ember
import ember.distributions as dist
from ember.distributions import constraints
from ember.errors import MissingParameterError

POSITIVE = {"constraint": constraints.positive}


def guided(*args, **kwargs):
    """A guide whose location is a param."""
    return lambda: normal("z", loc=ember.param(*args, **kwargs))


def scaled(value, **kwargs):
    return lambda: ember.sample("z", dist.Normal(0.0, ember.param("s", value, **kwargs)))


def z():
    return normal("z")


ROWS = [
    Row("a param", PASSES, z, guided("a", torch.tensor(0.3))),
    Row("a param from a function", PASSES, z, guided("a", lambda: torch.tensor(0.3))),
    Row(
        "a param without a value", raises("'a'", "initial value", error=MissingParameterError), z, guided("a")
    ),
    Row(
        "a param used twice",
        PASSES,
        z,
        lambda: (ember.param("a", torch.tensor(0.3)), normal("z", loc=ember.param("a"))),
    ),
    Row("a param in the model", PASSES, lambda: normal("z", loc=ember.param("a", torch.tensor(0.3))), z),
    Row(
        "a param shared by model and guide",
        PASSES,
        lambda: normal("z", loc=ember.param("a", torch.tensor(0.3))),
        guided("a", torch.tensor(0.3)),
    ),
    Row("a positive param", PASSES, z, scaled(torch.tensor(0.5), **POSITIVE)),
    Row(
        "a positive param that is negative",
        raises("'s'", "-0.5", "GreaterThan(lower_bound=0.0)"),
        z,
        scaled(torch.tensor(-0.5), **POSITIVE),
    ),
    Row("a positive param that is zero", raises("'s'"), z, scaled(torch.tensor(0.0), **POSITIVE)),
    Row("a scale without a constraint, negative", raises("scale"), z, scaled(torch.tensor(-0.5))),
    Row(
        "a simplex",
        PASSES,
        lambda: ember.sample("k", dist.Categorical(torch.ones(3))),
        lambda: ember.sample(
            "k", dist.Categorical(ember.param("w", torch.ones(3) / 3, constraint=constraints.simplex))
        ),
    ),
    Row(
        "a simplex that does not sum to one",
        raises("'w'", "Simplex()"),
        z,
        lambda: (ember.param("w", torch.ones(3), constraint=constraints.simplex), z()),
    ),
    Row(
        "a triangle",
        PASSES,
        z,
        lambda: (ember.param("t", torch.eye(2), constraint=constraints.lower_cholesky), z()),
    ),
    Row(
        "a triangle that is full",
        raises("'t'"),
        z,
        lambda: (ember.param("t", torch.ones(2, 2), constraint=constraints.lower_cholesky), z()),
    ),
    Row(
        "an interval",
        PASSES,
        z,
        lambda: (ember.param("u", torch.tensor(0.5), constraint=constraints.interval(0.0, 1.0)), z()),
    ),
    Row(
        "outside an interval",
        raises("'u'"),
        z,
        lambda: (ember.param("u", torch.tensor(1.5), constraint=constraints.interval(0.0, 1.0)), z()),
    ),
    Row("a param that is NaN", raises("loc"), z, guided("a", torch.tensor(float("nan")))),
    Row(
        "a param of integers",
        raises("'a'", error=(ValueError, TypeError, RuntimeError)),
        z,
        lambda: (ember.param("a", torch.tensor(3)), z()),
    ),
    Row(
        "a constant in place of a tensor",
        raises("'a'", error=TypeError),
        z,
        lambda: (ember.param("a", "three"), z()),
    ),
    Row(
        "a later constraint is ignored",
        PASSES,
        z,
        lambda: (ember.param("s", torch.tensor(-0.5)), ember.param("s", torch.tensor(0.5), **POSITIVE), z()),
    ),
    Row(
        "params in a loop",
        PASSES,
        lambda: each(range(2), lambda i: normal(f"z{i}")),
        lambda: each(range(2), lambda i: normal(f"z{i}", loc=ember.param(f"a{i}", torch.tensor(0.0)))),
    ),
    Row(
        "one param in a loop",
        PASSES,
        lambda: each(range(2), lambda i: normal(f"z{i}")),
        lambda: each(range(2), lambda i: normal(f"z{i}", loc=ember.param("a", torch.tensor(0.0)))),
    ),
    Row(
        "a param of a plate's shape",
        PASSES,
        lambda: inside(plate(), z),
        lambda: inside(plate(), guided("a", torch.zeros(3))),
    ),
    Row(
        "a param larger than its plate",
        raises("Shape mismatch inside plate('p') at site z"),
        lambda: inside(plate(), z),
        lambda: inside(plate(), guided("a", torch.zeros(4))),
    ),
    Row(
        "a param of a plate's shape, without the plate",
        raises("Model and guide shapes disagree at site 'z'", "a 3", "z dist 3"),
        z,
        guided("a", torch.zeros(3)),
    ),
    Row(
        "a module",
        PASSES,
        z,
        lambda: normal("z", loc=ember.module("net", torch.nn.Linear(2, 1))(torch.ones(2)).squeeze(-1)),
    ),
    Row(
        "a module's output of one element too many dims",
        PASSES,
        z,
        lambda: normal("z", loc=ember.module("net", torch.nn.Linear(2, 1))(torch.ones(2))),
    ),
    Row(
        "a module's output in a plate with a dim too many",
        raises("Model and guide shapes disagree at site 'z'", "actual: (3, 3)"),
        lambda: inside(plate(), z),
        lambda: inside(
            plate(), lambda: normal("z", loc=ember.module("net", torch.nn.Linear(2, 1))(torch.ones(3, 2)))
        ),
    ),
    Row(
        "a frozen module",
        warns("weight was not registered in the param store", "bias was not registered"),
        z,
        lambda: (ember.module("net", torch.nn.Linear(2, 1).requires_grad_(False)), z()),
    ),
    Row(
        "a function as a module",
        raises("module", "net", error=TypeError),
        z,
        lambda: (ember.module("net", abs), z()),
    ),
    Row(
        "a class as a module",
        raises("net", error=(TypeError, NotImplementedError)),
        z,
        lambda: (ember.module("net", torch.nn.Linear), z()),
    ),
]


@over(ROWS)
def test_params(row, objective):
    check(row, objective)


STORE = {
    "a value outside the constraint": (
        raises("'s'"),
        lambda store: store.__setitem__("s", torch.tensor(-1.0)),
    ),
    "a name that is not there": (raises("nothing", error=KeyError), lambda store: store["nothing"]),
    "a value inside the constraint": (PASSES, lambda store: store.__setitem__("s", torch.tensor(2.0))),
    "loading a file that is not there": (
        raises("nowhere", error=FileNotFoundError),
        lambda store: store.load("nowhere"),
    ),
    "a state without its parts": (
        raises("params", error=(ValueError, KeyError)),
        lambda store: store.set_state({}),
    ),
}


@pytest.mark.parametrize("name", STORE)
def test_store(name):
    ember.param("s", torch.tensor(1.0), **POSITIVE)
    outcome, act = STORE[name]
    judge(outcome, lambda: act(ember.get_param_store()))
