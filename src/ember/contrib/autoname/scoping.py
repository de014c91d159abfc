"""Put sites' names below a prefix, and count those that repeat."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

from ember.errors import message
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message, apply_stack, handler_stack, new_message


class ScopeMessenger(Messenger):
    """Put ``PREFIX/`` before the names of sample sites.

    :param prefix: the prefix.
    :param inner: whether :class:`NameCountMessenger` counts the names inside of scopes of one name, and
        not the scopes.
    :raises ValueError: without a prefix.
    """

    def __init__(self, prefix: str | None = None, inner: bool | None = None) -> None:
        if prefix is None:
            raise ValueError(
                message(
                    "no prefix was provided",
                    expected="scope(prefix=…)",
                    fix="give it, or decorate a function",
                )
            )
        self.prefix = prefix
        self.inner = bool(inner)
        self._suffix = ""

    def __enter__(self) -> ScopeMessenger:
        self._suffix = ""
        if not self.inner and handler_stack():
            # A counter outside of this scope says whether its name has been used before.
            asked = new_message("scope", self.prefix, _no_suffix, (), {})
            self._suffix = apply_stack(asked)["value"]
        return super().__enter__()

    def _pyro_sample(self, msg: Message) -> None:
        msg["name"] = f"{self.prefix}{self._suffix}/{msg['name']}"

    _pyro_scope = _pyro_sample


class NameCountMessenger(Messenger):
    """Add ``__1``, ``__2``, … to names of sample sites, and of scopes, that repeat."""

    def __enter__(self) -> NameCountMessenger:
        self._counts: Counter[str] = Counter()
        return super().__enter__()

    def _count(self, name: str) -> str:
        self._counts[name] += 1
        repeats = self._counts[name] - 1
        return f"__{repeats}" if repeats else ""

    def _pyro_sample(self, msg: Message) -> None:
        name = str(msg["name"])
        msg["name"] = name + self._count(name)

    def _pyro_scope(self, msg: Message) -> None:
        msg["value"] = self._count(f"{msg['name']}/")
        msg["done"] = msg["stop"] = True


def _no_suffix() -> str:
    return ""


def scope(fn: Callable[..., Any] | None = None, prefix: str | None = None, inner: bool | None = None) -> Any:
    """Put sample sites below a prefix: as a context, or a decorator, whose prefix is the function's name.

    :param fn: the function.
    :param prefix: the prefix, which a context needs.
    :param inner: whether counters stand at the names inside, and not at the scope's.

    >>> import ember
    >>> from ember import poutine
    >>> from ember.distributions import Normal
    >>> @scope
    ... def noise():
    ...     return ember.sample("x", Normal(0.0, 1.0))
    >>> @name_count
    ... def model():
    ...     return noise() + noise()
    >>> [name for name in poutine.trace(model).get_trace().nodes if not name.startswith("_")]
    ['noise/x', 'noise__1/x']
    """
    if fn is not None:
        return _Scope(prefix, inner)(fn)
    return _Scope(prefix, inner)


class _Scope:
    """A scope that makes a handler each time it is entered, so that functions may call themselves."""

    def __init__(self, prefix: str | None, inner: bool | None) -> None:
        self._prefix, self._inner = prefix, inner
        self._entered: list[ScopeMessenger] = []

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        prefix = self._prefix if self._prefix is not None else getattr(fn, "__name__", type(fn).__name__)

        @functools.wraps(fn)
        def scoped(*args: Any, **kwargs: Any) -> Any:
            with ScopeMessenger(prefix, self._inner):
                return fn(*args, **kwargs)

        return scoped

    def __enter__(self) -> ScopeMessenger:
        handler = ScopeMessenger(self._prefix, self._inner)
        self._entered.append(handler)
        return handler.__enter__()

    def __exit__(self, *exception: Any) -> Any:
        return self._entered.pop().__exit__(*exception)


def name_count(fn: Callable[..., Any] | None = None) -> Any:
    """Add counters to names that repeat: as a context or a decorator.

    :param fn: a function.
    """
    return NameCountMessenger() if fn is None else NameCountMessenger()(fn)
