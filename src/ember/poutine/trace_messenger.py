"""Record the sites of an execution in a Trace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ember import settings
from ember.errors import user_place
from ember.poutine.messenger import BoundHandler, Messenger
from ember.poutine.runtime import Message
from ember.poutine.trace_struct import Trace


class TraceMessenger(Messenger):
    """Record every site that passes; ``trace(fn).get_trace(*args)`` runs ``fn`` and returns its Trace.

    :param graph_type: "flat", or "dense" to record edges of possible dependence.
    :param param_only: record param sites only.
    """

    def __init__(self, graph_type: str | None = None, param_only: bool | None = None) -> None:
        self.graph_type = graph_type or "flat"
        self.param_only = bool(param_only)
        self.trace = Trace(self.graph_type)
        self._locate = False  # whether to note where sites stand in the source

    def __enter__(self) -> Any:
        self.trace = Trace(self.graph_type)
        self._locate = not self.param_only and settings.read("validate_poutine")
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self.graph_type == "dense" and exc_type is None:
            add_dependence_edges(self.trace)
        return super().__exit__(exc_type, exc_value, traceback)

    def __call__(self, fn: Callable[..., Any]) -> TraceHandler:
        super().__call__(fn)  # refuses what is not callable
        return TraceHandler(self, fn)

    def get_trace(self) -> Trace:
        """Return a shallow copy of what was recorded."""
        return self.trace.copy()

    def _reset(self) -> None:
        recorded = self.trace
        self.trace = Trace(self.graph_type)
        if "_INPUT" in recorded.nodes:
            self.trace.nodes["_INPUT"] = recorded.nodes["_INPUT"]

    def _pyro_post_sample(self, msg: Message) -> None:
        if not (self.param_only or msg["infer"].get("_do_not_trace")):
            self._record(msg)

    def _pyro_post_param(self, msg: Message) -> None:
        self._record(msg)

    def _record(self, msg: Message) -> None:
        # A copy, since handlers further in may still change the message.
        place = user_place(2) if self._locate else None
        self.trace.add_record(str(msg["name"]), msg.copy(), place)


class TraceHandler(BoundHandler):
    """A function that is traced when called."""

    handler: TraceMessenger

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.handler as recorder:
            recorder.trace.add_node(
                "_INPUT", name="_INPUT", type="args", args=args, kwargs=kwargs, value=None
            )
            try:
                result = self.fn(*args, **kwargs)
            except (ValueError, RuntimeError) as error:
                raise _with_shapes(error, recorder.trace) from error
            recorder.trace.add_node("_RETURN", name="_RETURN", type="return", value=result)
        return result

    @property
    def trace(self) -> Trace:
        """What the last call recorded."""
        return self.handler.trace

    def get_trace(self, *args: Any, **kwargs: Any) -> Trace:
        """Run the function and return its Trace."""
        self(*args, **kwargs)
        return self.handler.get_trace()


def _with_shapes(error: Exception, trace: Trace) -> Exception:
    text = f"{error}\n{trace.format_shapes()}"
    try:
        named = type(error)(text)
    except TypeError:  # a class with other constructor arguments keeps its own text
        error.add_note(trace.format_shapes())
        return error
    return named.with_traceback(sys.exc_info()[2])


def add_dependence_edges(trace: Trace) -> None:
    """Add an edge to each site from every earlier one that it is not independent of by plates.

    Two sites in different iterations of one sequential plate are independent.
    """
    earlier: list[tuple[str, Any]] = []
    for name, node in trace.nodes.items():
        if node["type"] != "sample":
            continue
        for past_name, past_node in earlier:
            if not _independent(past_node, node):
                trace.add_edge(past_name, name)
        earlier.append((name, node))


def _independent(past: Any, node: Any) -> bool:
    counters = {frame.name: frame.counter for frame in past["cond_indep_stack"]}
    return any(
        frame.name in counters and frame.counter != counters[frame.name] for frame in node["cond_indep_stack"]
    )
