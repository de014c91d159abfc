"""Run the tables of this folder: small models that must pass silently, warn, or raise, each with its text."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
import torch

import ember
import ember.distributions as dist
from ember import infer

ELBOS = {
    "Trace": infer.Trace_ELBO,
    "Graph": infer.TraceGraph_ELBO,
    "Enum": infer.TraceEnum_ELBO,
    "MeanField": infer.TraceMeanField_ELBO,
    "TMC": functools.partial(infer.TraceTMC_ELBO, strict_enumeration_warning=False),
    "Renyi": infer.RenyiELBO,
    "Tail": infer.TraceTailAdaptive_ELBO,
    "MMD": infer.Trace_MMD,
    "Energy": infer.EnergyDistance,
    "Wake": infer.ReweightedWakeSleep,
    "Jit": infer.JitTrace_ELBO,
}
SAMPLED = ("Trace", "Graph")
SUMMED = ("Enum",)


class Outcome(NamedTuple):
    """What a row must do: ``error`` or ``warning`` with a text, or neither."""

    error: type[Exception] | None = None
    warning: type[Warning] | None = None
    texts: tuple[str, ...] = ()


PASSES = Outcome()


def raises(*texts: str, error: type[Exception] = ValueError) -> Outcome:
    """Say that a row raises an error whose text holds all of these."""
    return Outcome(error=error, texts=texts)


def warns(*texts: str, warning: type[Warning] = UserWarning) -> Outcome:
    """Say that a row gives warnings, each of which holds one of these texts, and that no text is left out."""
    return Outcome(warning=warning, texts=texts)


class Row(NamedTuple):
    """A model, its guide, and what an objective says about them."""

    name: str
    outcome: Outcome
    model: Callable[..., Any]
    guide: Callable[..., Any] = lambda: None
    on: tuple[str, ...] = SAMPLED
    options: dict[str, Any] = {}  # noqa: RUF012 read only


def over(rows: list[Row]) -> Any:
    """Parametrise a test by the rows of a table and the objectives of each."""
    cases = [pytest.param(row, each, id=f"{row.name}-{each}") for row in rows for each in row.on]
    names = [row.name for row in rows]
    assert len(names) == len(set(names)), "two rows have one name"
    return pytest.mark.parametrize("row, objective", cases)


def check(row: Row, objective: str) -> None:
    """Compute a loss with its gradients, and compare what is said with the row's outcome."""
    elbo = ELBOS[objective](**row.options)
    judge(row.outcome, lambda: elbo.loss_and_grads(row.model, row.guide))


def judge(outcome: Outcome, act: Callable[[], Any]) -> None:
    """Compare what an action says with an outcome."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if outcome.error is None:
            act()
        else:
            with pytest.raises(outcome.error) as error:
                act()
            said = str(error.value)
            for text in outcome.texts:
                assert text in said, f"{text!r} is not in:\n{said}"
            return
    said_each = [(each.category, str(each.message)) for each in caught]
    if outcome.warning is None:
        assert said_each == [], "expected silence"
        return
    for text in outcome.texts:
        assert any(text in said for _, said in said_each), f"{text!r} is not in {said_each}"
    for category, said in said_each:
        assert issubclass(category, outcome.warning), category
        assert any(text in said for text in outcome.texts), f"an unexpected warning: {said}"
        if said.startswith(("Found", "Encountered")):
            assert re.search(r"fix:|expected:|actual:", said), f"no fix in: {said}"


# -- the vocabulary of the rows: one statement each ----------------------------------------------------------


def normal(name: str, *batch: int, event: int = 0, loc: Any = 0.0, **how: Any) -> Any:
    """Sample from a standard normal of a shape, whose rightmost ``event`` dims are its event."""
    return ember.sample(name, dist.Normal(loc + torch.zeros(batch), 1.0).to_event(event), **how)


def bernoulli(name: str, *batch: int, event: int = 0, probs: Any = 0.4, **how: Any) -> Any:
    """Sample from a Bernoulli of a shape."""
    return ember.sample(name, dist.Bernoulli(probs + torch.zeros(batch)).to_event(event), **how)


def categorical(name: str, *batch: int, size: int = 3, **how: Any) -> Any:
    """Sample from a uniform Categorical of a batch shape."""
    return ember.sample(name, dist.Categorical(torch.ones((*batch, size))), **how)


def observe(name: str, loc: Any, *shape: int, event: int = 0) -> Any:
    """Observe zeros of a shape under a normal."""
    return ember.sample(name, dist.Normal(loc, 1.0).to_event(event), obs=torch.zeros(shape))


def inside(*plates_and_body: Any) -> Any:
    """Run the last argument, a function, inside the plates before it."""
    *plates, body = plates_and_body
    with ExitStack() as stack:
        for plate in plates:
            stack.enter_context(plate)
        return body()


def each(plate: Any, body: Callable[[int], Any]) -> Any:
    """Run a function for each index of a sequential plate (or of any iterable)."""
    return [body(index) for index in plate]


def plate(name: str = "p", size: int = 3, **how: Any) -> Any:
    """Make a plate."""
    return ember.plate(name, size, **how)
