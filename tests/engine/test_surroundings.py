"""Check that changes of the Python values around functions are seen, named, and undone."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ember.engine.recording.refusal import NotCapturable
from ember.engine.surroundings import Surroundings

FACTOR = 2.0
TABLE = {"a": [1, 2], "b": {"c": 3}}
ARRAY = np.arange(4.0)


class Model:
    rate = 1.0

    def __init__(self) -> None:
        self.flag = True
        self.parts = [torch.zeros(2), {"deep": 1}]

    def __call__(self) -> Any:
        return helper() if self.flag else None


def helper() -> Any:
    return FACTOR, TABLE, ARRAY, np.sum(ARRAY)


CHANGES: dict[str, Callable[[Model], None]] = {
    "FACTOR": lambda model: globals().update(FACTOR=3.0),
    "TABLE['a']": lambda model: TABLE["a"].append(3),
    "TABLE['b']['c']": lambda model: TABLE["b"].update(c=4),
    "TABLE": lambda model: TABLE.update(new=1),
    "ARRAY": lambda model: ARRAY.__setitem__(0, 9.0),
    "Model.flag": lambda model: setattr(model, "flag", 1),
    "Model.rate": lambda model: setattr(Model, "rate", 2.0),
    "Model.parts[…]": lambda model: model.parts[0].add_(1),
    "Model.parts": lambda model: model.parts.__setitem__(1, {"deep": 1}),
    "Model.parts[…]['deep']": lambda model: model.parts[1].update(deep=2),
}


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    yield
    globals().update(FACTOR=2.0, TABLE={"a": [1, 2], "b": {"c": 3}}, ARRAY=np.arange(4.0))
    Model.rate = 1.0


@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_named(name: str) -> None:
    model = Model()
    around = Surroundings([functools.partial(model)])
    assert around.change() is None
    CHANGES[name](model)
    assert around.change() == name


@pytest.mark.parametrize(
    "name", [each for each in CHANGES if each not in ("ARRAY", "Model.rate", "Model.parts[…]")]
)
def test_changes_are_undone(name: str) -> None:
    model = Model()
    around = Surroundings([model])
    CHANGES[name](model)
    model.extra = 1  # type: ignore[attr-defined]
    around.restore()
    assert around.change() is None and not hasattr(model, "extra")


def test_closures_defaults_and_modules_are_reached() -> None:
    weight = 1.0
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())

    def model(options: dict[str, int] = {"n": 1}) -> Any:  # noqa: B006 - a default that changes
        return weight, layer, options

    around = Surroundings([model], apart=layer.parameters())
    layer.eval()
    assert around.change() == "layer.training"
    layer.train()
    assert around.change() is None
    with torch.no_grad():
        layer[0].weight.add_(1)  # apart
    assert around.change() is None
    model.__defaults__[0]["n"] = 2  # type: ignore[index]
    assert around.change() == "model['n']"
    model.__defaults__[0]["n"] = 1  # type: ignore[index]
    weight = 2.0
    assert around.change() == "weight"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (iter([1, 2]), "gives other values each time"),
        ((each for each in "ab"), "gives other values each time"),
        (np.zeros(1 << 18), "make it a tensor"),
    ],
)
def test_values_that_change_unseen_are_refused(value: Any, reason: str) -> None:
    with pytest.raises(NotCapturable, match=reason):
        Surroundings([lambda: value])


def test_closures_and_slots_are_put_back() -> None:
    class Counter:
        __slots__ = ("count",)

        def __init__(self) -> None:
            self.count = 0

    counter, calls = Counter(), 0

    def model() -> None:
        nonlocal calls
        calls += 1
        counter.count += 1

    around = Surroundings([model])
    model()
    assert around.change() is not None
    around.restore()
    assert (calls, counter.count) == (0, 0) and around.change() is None
