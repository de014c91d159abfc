"""Say which earlier sites a site may depend on, so that enumeration can reuse dimensions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from ember.poutine.messenger import BoundHandler, Messenger
from ember.poutine.runtime import Message, pop_handler, push_handler


class MarkovMessenger(Messenger):
    """Declare that a site depends only on sites of the last ``history`` steps of this context.

    Used as a decorator (each nested call is a step), around a loop (``for t in markov(range(n))``: each
    iteration is a step), or as a context manager that may be entered again. It writes the markov scope and
    depth of each site to its infer dict.

    :param history: number of earlier steps that a site may depend on; 0 makes steps independent.
    :param keep: leave the sites of sibling steps in scope, as tree-shaped recursions need.
    :raises ValueError: for a negative history.
    """

    def __init__(
        self, history: int = 1, keep: bool = False, dim: int | None = None, name: str | None = None
    ) -> None:
        if history < 0:
            raise ValueError(f"markov needs history >= 0, got {history}")
        if dim is not None:
            raise ValueError(
                "vectorised markov (dim=...) is not part of this version of ember; "
                "use a loop: for t in markov(range(n))"
            )
        self.history = history
        self.keep = keep
        self.dim = dim
        self.name = name
        self._iterable: Iterable[Any] | None = None
        self._position = -1
        self._steps: list[set[str]] = []
        self._entries = 0

    def generator(self, iterable: Iterable[Any]) -> MarkovMessenger:
        """Make each iteration over ``iterable`` a step."""
        self._iterable = iterable
        return self

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError("markov is iterated without an iterable: use markov(range(n))")
        with ExitStack() as entered:
            for value in self._iterable:
                entered.enter_context(self)
                yield value

    def __call__(self, fn: Callable[..., Any]) -> BoundHandler:
        return super().__call__(fn)

    def __enter__(self) -> Any:
        self._position += 1
        if len(self._steps) <= self._position:
            self._steps.append(set())
        # A step that is entered again is on the stack once, and counts its entries.
        if self._entries == 0:
            push_handler(self)
        self._entries += 1
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if not self.keep:
            self._steps.pop()
        self._position -= 1
        self._entries -= 1
        if self._entries == 0:
            pop_handler(self, unwind=exc_type is not None)
        return None

    def _reset(self) -> None:
        self._steps = [set() for _ in range(self._position + 1)]

    def _pyro_sample(self, msg: Message) -> None:
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        infer = msg["infer"]
        # Counted, so that a site leaves the scope when any one of its contexts does.
        scope = infer.setdefault("_markov_scope", Counter())
        for position in range(max(0, self._position - self.history), self._position + 1):
            scope.update(self._steps[position])
        if self.keep:  # later sites further in will see both this one and what is kept there
            infer.setdefault("_markov_kept", set()).update(*self._steps[self._position + 1 :])
        infer["_markov_depth"] = 1 + infer.get("_markov_depth", 0)
        self._steps[self._position].add(str(msg["name"]))


def markov(
    fn: Callable[..., Any] | Iterable[Any] | None = None,
    history: int = 1,
    keep: bool = False,
    dim: int | None = None,
    name: str | None = None,
) -> Any:
    """Declare Markov dependence for a function, a loop or a block; see :class:`MarkovMessenger`.

    :param fn: a function, an iterable such as ``range(n)``, or None for a context manager or decorator.
    :param history: number of earlier steps that a site may depend on.
    :param keep: leave the sites of sibling steps in scope.

    >>> import ember
    >>> [t for t in ember.markov(range(3))]
    [0, 1, 2]
    """
    messenger = MarkovMessenger(history=history, keep=keep, dim=dim, name=name)
    if fn is None:
        return messenger
    if callable(fn):
        return messenger(fn)
    if not isinstance(fn, Iterable):
        raise ValueError(
            f"{fn!r} is neither callable nor iterable, did you mean to pass it as a keyword arg?"
        )
    return messenger.generator(fn)
