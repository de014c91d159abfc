"""Leave a program at a chosen site, and run programs over a queue of partial traces."""

from __future__ import annotations

import functools
from collections.abc import Callable
from queue import Empty
from typing import Any

import torch

from ember.poutine.messenger import Messenger
from ember.poutine.replay_messenger import ReplayMessenger
from ember.poutine.runtime import Message, NonlocalExit
from ember.poutine.trace_messenger import TraceMessenger
from ember.poutine.trace_struct import Trace

EscapeFn = Callable[[Message], bool]


class EscapeMessenger(Messenger):
    """Raise NonlocalExit at the first site for which ``escape_fn`` holds.

    :param escape_fn: site record → bool.
    """

    def __init__(self, escape_fn: EscapeFn) -> None:
        self.escape_fn = escape_fn

    def _pyro_sample(self, msg: Message) -> None:
        if self.escape_fn(msg):
            msg["done"] = True
            msg["stop"] = True
            msg["continuation"] = _leave


def _leave(msg: Message) -> None:
    raise NonlocalExit(msg)


def discrete_escape(trace: Trace, msg: Message) -> bool:
    """Whether the site is a latent one with enumerable support that ``trace`` does not have."""
    return (
        msg["type"] == "sample"
        and not msg["is_observed"]
        and msg["name"] not in trace
        and getattr(msg["fn"], "has_enumerate_support", False)
    )


def all_escape(trace: Trace, msg: Message) -> bool:
    """Whether the site is a latent one that ``trace`` does not have."""
    return msg["type"] == "sample" and not msg["is_observed"] and msg["name"] not in trace


def enum_extend(trace: Trace, msg: Message, num_samples: int | None = None) -> list[Trace]:
    """Extend a trace by each value of the site's support, or by the first ``num_samples`` of them."""
    limit = -1 if num_samples is None else num_samples
    extended = []
    for index, value in enumerate(msg["fn"].enumerate_support(*msg["args"], **msg["kwargs"])):
        if index == limit:
            break
        extended.append(_extend(trace, msg, value))
    return extended


def mc_extend(trace: Trace, msg: Message, num_samples: int | None = None) -> list[Trace]:
    """Extend a trace by ``num_samples`` draws at the site (one by default)."""
    return [_extend(trace, msg, msg["fn"](*msg["args"], **msg["kwargs"])) for _ in range(num_samples or 1)]


def _extend(trace: Trace, msg: Message, value: torch.Tensor) -> Trace:
    new = trace.copy()
    site = msg.copy()
    site["value"] = value
    new.add_node(str(msg["name"]), **site)
    return new


def queue(
    fn: Callable[..., Any] | None = None,
    queue: Any = None,
    max_tries: int = int(1e6),
    extend_fn: Callable[..., list[Trace]] = enum_extend,
    escape_fn: Callable[[Trace, Message], bool] = discrete_escape,
    num_samples: int | None = None,
) -> Callable[..., Any]:
    """Run ``fn`` to completion over a queue of partial traces; each call takes up where the last ended.

    At a site that the current partial trace does not have, the run is abandoned and the queue gets one
    extended trace for each value.

    :param queue: a ``queue.Queue`` of Traces, with at least one (for example an empty Trace).
    :param max_tries: number of runs after which to give up.
    :param extend_fn: (trace, site, num_samples=…) → extended traces.
    :param escape_fn: (trace, site) → whether to extend at this site.
    :raises ValueError: if the queue is missing or empty, or after ``max_tries`` unfinished runs.
    """
    if fn is None:
        return lambda function: _queued(function, queue, max_tries, extend_fn, escape_fn, num_samples)
    return _queued(fn, queue, max_tries, extend_fn, escape_fn, num_samples)


def _queued(
    fn: Callable[..., Any],
    queue: Any,
    max_tries: int,
    extend_fn: Callable[..., list[Trace]],
    escape_fn: Callable[[Trace, Message], bool],
    num_samples: int | None,
) -> Callable[..., Any]:
    if queue is None:
        raise ValueError("poutine.queue needs a queue of partial traces")

    def run(*args: Any, **kwargs: Any) -> Any:
        for _ in range(max_tries):
            try:
                partial = queue.get_nowait()
            except Empty:
                raise ValueError("poutine.queue: the queue of partial traces is empty") from None
            recorder = TraceMessenger()
            escaping = EscapeMessenger(functools.partial(escape_fn, partial))
            traced = recorder(escaping(ReplayMessenger(partial)(fn)))
            try:
                return traced(*args, **kwargs)
            except NonlocalExit as escape:
                escape.reset_stack()
                for extended in extend_fn(recorder.get_trace(), escape.site, num_samples=num_samples):
                    queue.put(extended)
        raise ValueError(f"poutine.queue: no run was completed in max_tries={max_tries} tries")

    return run
