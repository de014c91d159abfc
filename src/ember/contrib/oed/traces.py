"""Run models of many designs, and add up what their sites score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ember import poutine

Model = Callable[..., Any]
Labels = str | Sequence[str]


def as_list(labels: Labels | None) -> list[str]:
    """Return one or several labels as a list."""
    if labels is None:
        return []
    return [labels] if isinstance(labels, str) else list(labels)


def run(model: Model, *args: Any, data: dict[str, Tensor] | None = None) -> Any:
    """Return the trace of a model, conditioned on data, with its log probs."""
    if data is not None:
        model = poutine.condition(model, data=data)
    trace = poutine.trace(model).get_trace(*args)
    trace.compute_log_prob()
    return trace


def values(trace: Any, labels: Sequence[str]) -> dict[str, Tensor]:
    """Return the values of sites."""
    return {label: trace.nodes[label]["value"] for label in labels}


def score(trace: Any, labels: Sequence[str]) -> Any:
    """Return the sum of the sites' log probs, of the shape of the designs."""
    return sum(trace.nodes[label]["log_prob"] for label in labels)
