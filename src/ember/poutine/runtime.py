"""Define the message that an effect sends, and send it through the context-local stack of handlers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from ember.poutine.enum_allocator import ENUM_ALLOCATOR as _ENUM_ALLOCATOR  # noqa: F401
from ember.poutine.plate_dims import CondIndepStackFrame, DimAllocator

if TYPE_CHECKING:
    from ember.poutine.messenger import Messenger

Function = TypeVar("Function", bound=Callable[..., Any])


class InferDict(TypedDict, total=False):
    """Instructions of a sample site to inference."""

    enumerate: str  # "parallel" or "sequential": sum the site out
    expand: bool  # whether enumerated values are expanded over the batch shape
    num_samples: int  # Monte Carlo draws in place of the whole support
    tmc: str  # "diagonal" or "mixture": tensor Monte Carlo proposals
    is_auxiliary: bool  # a guide site without counterpart in the model, or a factor
    is_observed: bool  # False makes a site with ``obs`` a latent one that has a value
    baseline: dict[str, Any]  # control variate of a score-function term
    was_observed: bool  # set by ``uncondition``
    obs: Any  # the former observation, set by ``uncondition``
    prior: Any
    _deterministic: bool
    _do_not_trace: bool
    _do_not_observe: bool
    _markov_depth: int
    _markov_scope: Any
    _markov_kept: set[str]
    _enumerate_dim: int
    _first_enumerate_dim: int
    _dim_to_symbol: dict[int, str]
    _dim_to_id: dict[int, int]


class Message(TypedDict, total=False):
    """The record of one effect, read and written by every handler; a plain dict at run time."""

    type: str  # "sample", "param", "subsample", "barrier", "get_mask", or a user's own
    name: str | None  # the site's name
    fn: Any  # distribution or callable that makes the value
    is_observed: bool  # whether the value is data
    args: tuple[Any, ...]  # positional arguments of ``fn``
    kwargs: dict[str, Any]  # keyword arguments of ``fn``
    value: Any  # the value, or None before it is drawn
    infer: Any  # InferDict, owned by this site
    scale: Any  # positive float or tensor that multiplies the log probability
    mask: Any  # None, bool or bool tensor: which batch elements count
    cond_indep_stack: tuple[CondIndepStackFrame, ...]  # enclosing plates, outermost first
    done: bool  # whether the value is final
    stop: bool  # whether handlers further out are left out
    continuation: Callable[[Message], None] | None  # called after all handlers
    # What Trace adds:
    log_prob: Any
    log_prob_sum: Any
    unscaled_log_prob: Any
    score_parts: Any
    packed: dict[str, Any]


class NonlocalExit(Exception):
    """Carry a site out of the program, past the handlers (see ``escape`` and ``queue``)."""

    def __init__(self, site: Message, *args: Any) -> None:
        super().__init__(*args)
        self.site = site

    def reset_stack(self) -> None:
        """Let the handlers that are still active forget what they recorded of the abandoned run."""
        for frame in reversed(_stack.get()):
            frame._reset()


# Immutable, so that a context copied into a thread or task keeps its own view.
_stack: ContextVar[tuple[Messenger, ...]] = ContextVar("ember_handlers", default=())


def handler_stack() -> tuple[Messenger, ...]:
    """Return the active handlers of this context, outermost first."""
    return _stack.get()


def push_handler(handler: Messenger) -> None:
    """Make ``handler`` the innermost one."""
    _stack.set((*_stack.get(), handler))


def pop_handler(handler: Messenger, unwind: bool) -> None:
    """Remove ``handler``; with ``unwind`` also everything that is still active inside it."""
    stack = _stack.get()
    if stack and stack[-1] is handler:
        _stack.set(stack[:-1])
        return
    if handler not in stack:
        return
    index = stack.index(handler)
    if unwind:
        _stack.set(stack[:index])
    else:
        raise ValueError(
            f"cannot exit {type(handler).__name__}: handlers entered after it are still active "
            f"({', '.join(type(each).__name__ for each in stack[index + 1 :])}); exit them first"
        )


def am_i_wrapped() -> bool:
    """Whether any handler is active."""
    return bool(_stack.get())


def default_process_message(msg: Message) -> None:
    """Give the message its value, if no handler has, by calling its function."""
    if not (msg["done"] or msg["is_observed"] or msg["value"] is not None):
        msg["value"] = msg["fn"](*msg["args"], **msg["kwargs"])
    msg["done"] = True


def apply_stack(msg: Message) -> Message:
    """Send a message through the handlers: innermost first on the way out, outermost first on the way back.

    A handler that sets ``stop`` hides the message from the handlers outside it, both ways.
    """
    stack = _stack.get()
    reached = len(stack)
    while reached:
        reached -= 1
        stack[reached]._process_message(msg)
        if msg["stop"]:
            break
    default_process_message(msg)
    for position in range(reached, len(stack)):
        stack[position]._postprocess_message(msg)
    continuation = msg["continuation"]
    if continuation is not None:
        continuation(msg)
    return msg


def new_message(
    kind: str,
    name: str | None,
    fn: Any,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    value: Any = None,
    is_observed: bool = False,
    infer: Any = None,
) -> Message:
    """Make the record of one effect, with the defaults that handlers start from."""
    return {
        "type": kind,
        "name": name,
        "fn": fn,
        "is_observed": is_observed,
        "args": args,
        "kwargs": {} if kwargs is None else kwargs,
        "value": value,
        "infer": {} if infer is None else infer,
        "scale": 1.0,
        "mask": None,
        "cond_indep_stack": (),
        "done": False,
        "stop": False,
        "continuation": None,
    }


def effectful(fn: Function | None = None, type: str | None = None) -> Any:
    """Turn a function into one whose calls are messages of the given type.

    The wrapped function takes two more keyword arguments, ``name`` and ``infer``. Without active handlers it
    is called as it is.
    """
    if fn is None:
        return functools.partial(effectful, type=type)
    if getattr(fn, "_is_effectful", False):
        return fn
    if type is None or type == "message":
        raise ValueError(f"an effectful function needs an operation type, got {type!r}")

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        name = kwargs.pop("name", None)
        infer = kwargs.pop("infer", None)
        value = kwargs.pop("obs", None)
        observed = value is not None
        if not _stack.get():
            return value if observed else fn(*args, **kwargs)
        msg = new_message(type, name, fn, args, kwargs, value, observed, dict(infer or {}))
        return apply_stack(msg)["value"]

    wrapper._is_effectful = True  # type: ignore[attr-defined]
    return wrapper


def get_mask() -> Any:
    """Return the mask in force here: None, a bool or a bool tensor.

    A model may skip a costly factor where this is False, as it is in predictions.
    """
    if not _stack.get():
        return None
    return apply_stack(new_message("get_mask", None, _no_value))["mask"]


def _no_value() -> None: ...


def get_plates() -> tuple[CondIndepStackFrame, ...]:
    """Return the plates that a site here would be in, outermost first; those behind a block are left out."""
    if not _stack.get():
        return ()
    return apply_stack(new_message("get_plates", None, _no_value))["cond_indep_stack"]


def active_plates() -> list[CondIndepStackFrame]:
    """Return the frames of the active plates, outermost first, and those whose dims were claimed by hand."""
    frames = [handler.plate_frame for handler in _stack.get() if handler.plate_frame is not None]
    claimed = _DIM_ALLOCATOR.claimed
    return [*frames, *claimed] if claimed else frames


_DIM_ALLOCATOR = DimAllocator(active_plates)


def __getattr__(name: str) -> Any:
    if name == "_PYRO_STACK":  # where third-party handlers look for the stack
        return list(_stack.get())
    raise AttributeError(f"module 'ember.poutine.runtime' has no attribute '{name}'")
