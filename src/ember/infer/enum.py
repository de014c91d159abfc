"""Iterate over the executions of a program, one for each combination of values of its discrete sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import LifoQueue
from typing import Any

from ember import poutine
from ember.poutine.enumeration_config import config_enumerate
from ember.poutine.escape_messenger import discrete_escape, queue
from ember.poutine.runtime import Message
from ember.poutine.trace_struct import Trace

__all__ = ["config_enumerate", "iter_discrete_escape", "iter_discrete_traces", "iter_sequential_traces"]


def iter_discrete_escape(trace: Trace, msg: Message) -> bool:
    """Whether the site is to be enumerated sequentially, and ``trace`` does not have it."""
    return (
        msg["type"] == "sample"
        and not msg["is_observed"]
        and msg["infer"].get("enumerate") == "sequential"
        and msg["name"] not in trace
    )


def iter_discrete_traces(
    graph_type: str, fn: Callable[..., Any], *args: Any, **kwargs: Any
) -> Iterator[Trace]:
    """Yield a trace of ``fn`` for each combination of values of its latent sites of finite support.

    :param graph_type: of the traces, "flat" or "dense".
    :param fn: a stochastic function.

    Sites before the last discrete one keep their values in the traces that share them.
    """
    return _iterate(graph_type, fn, discrete_escape, args, kwargs)


def iter_sequential_traces(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Trace]:
    """Yield a trace for each combination of values of the sites marked ``enumerate: "sequential"``."""
    return _iterate("flat", fn, iter_discrete_escape, args, kwargs)


def _iterate(
    graph_type: str,
    fn: Callable[..., Any],
    escape: Callable[[Trace, Message], bool],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Iterator[Trace]:
    partial: LifoQueue[Trace] = LifoQueue()
    partial.put(Trace())
    run = queue(fn, queue=partial, escape_fn=escape)
    while not partial.empty():
        yield poutine.trace(run, graph_type=graph_type).get_trace(*args, **kwargs)
