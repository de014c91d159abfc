"""Name sites by the functions that draw them, and by their distributions."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import ember
from ember.errors import message


class _Frame:
    """A function that is running, with the names used in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.names: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()


_frame: ContextVar[_Frame | None] = ContextVar("frame", default=None)


class _Naming:
    """Name sites by a function, as its decorator, or by a name, as a context."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._tokens: list[Any] = []

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        name = self._name if self._name is not None else getattr(fn, "__name__", type(fn).__name__)

        @functools.wraps(fn)
        def named(*args: Any, **kwargs: Any) -> Any:
            with _Naming(name):
                return fn(*args, **kwargs)

        return named

    def __enter__(self) -> None:
        if self._name is None:
            raise ValueError(
                message("autoname has no name.", fix="give autoname(name=…), or decorate a function")
            )
        outer, path = _frame.get(), self._name
        if outer is not None:
            repeats = outer.frames[path]
            outer.frames[path] += 1
            path = f"{outer.path}/{path}" + (f"__{repeats}" if repeats else "")
        self._tokens.append(_frame.set(_Frame(path)))

    def __exit__(self, *exception: Any) -> None:
        _frame.reset(self._tokens.pop())


def autoname(fn: Callable[..., Any] | None = None, name: str | None = None) -> Any:
    """Let :func:`sample` name sites by the function, as a decorator, or by a given name, as a context.

    :param fn: the function.
    :param name: a name, by default the function's.

    >>> from ember import poutine
    >>> from ember.distributions import Normal
    >>> @autoname
    ... def model():
    ...     return sample(Normal(0.0, 1.0)) + sample(Normal(0.0, 1.0)) + sample("x", Normal(0.0, 1.0))
    >>> [name for name in poutine.trace(model).get_trace().nodes if not name.startswith("_")]
    ['model/Normal', 'model/Normal1', 'model/x']
    """
    return _Naming(name) if fn is None else _Naming(name)(fn)


def sample(*args: Any, **kwargs: Any) -> Any:
    """Draw like :func:`ember.sample`, whose name may be left out; then it is the distribution's class's.

    :param args: a name and a distribution, or a distribution; and other arguments of :func:`ember.sample`.
    """
    if args and not isinstance(args[0], str):
        args = (type(args[0]).__name__, *args)
    name, *rest = args
    frame = _frame.get()
    if frame is not None:
        repeats = frame.names[name]
        frame.names[name] += 1
        name = f"{frame.path}/{name}{repeats or ''}"
    return ember.sample(name, *rest, **kwargs)
