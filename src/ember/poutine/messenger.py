"""Be the base of effect handlers: objects that see the messages sent while they are active."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from ember.poutine.runtime import CondIndepStackFrame, Message, handler_stack, pop_handler, push_handler

Self = TypeVar("Self", bound="Messenger")


class Messenger:
    """Base class of effect handlers, used as context manager, decorator, or by calling it with a function.

    Subclasses override ``_process_message`` and ``_postprocess_message``, or define methods for one type of
    message: ``_pyro_sample``, ``_pyro_post_sample``, ``_pyro_param``, …
    """

    plate_frame: CondIndepStackFrame | None = None  # what a plate adds to sites while it is active

    # Methods by type of message, found on first use.
    _before: ClassVar[dict[str, Callable[..., Any] | None]] = {}
    _after: ClassVar[dict[str, Callable[..., Any] | None]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._before, cls._after = {}, {}
        if "_post_process_message" in cls.__dict__ and "_postprocess_message" not in cls.__dict__:
            cls._postprocess_message = cls.__dict__["_post_process_message"]  # type: ignore[method-assign]

    def __call__(self, fn: Callable[..., Any]) -> Any:
        """Return ``fn`` run under this handler."""
        if not callable(fn):
            raise ValueError(
                f"{fn!r} is not callable, did you mean to pass it as a keyword arg? "
                f"({type(self).__name__} wraps functions)"
            )
        return BoundHandler(self, fn)

    def __enter__(self) -> Any:
        if self in handler_stack():
            raise ValueError(f"cannot enter the same {type(self).__name__} twice: it is already active")
        push_handler(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        pop_handler(self, unwind=exc_type is not None)
        return None

    def _reset(self) -> None:
        """Forget what was recorded, when a run is abandoned (see NonlocalExit)."""

    def _process_message(self, msg: Message) -> None:
        kind = msg["type"]
        try:
            method = self._before[kind]
        except KeyError:
            method = self._before[kind] = self._find_method("_pyro_" + kind)
        if method is not None:
            method(self, msg)

    def _postprocess_message(self, msg: Message) -> None:
        kind = msg["type"]
        try:
            method = self._after[kind]
        except KeyError:
            method = self._after[kind] = self._find_method("_pyro_post_" + kind)
        if method is not None:
            method(self, msg)

    @classmethod
    def _find_method(cls, name: str) -> Callable[..., Any] | None:
        found = getattr(cls, name, None)
        if isinstance(inspect.getattr_static(cls, name, None), (staticmethod, classmethod)):
            return lambda self, msg: found(msg)  # type: ignore[misc]  # gives it the calling form of a method
        return found

    @classmethod
    def register(
        cls, fn: Callable[..., Any] | None = None, type: str | None = None, post: bool | None = None
    ) -> Any:
        """Add ``fn(self, msg)`` as this class's method for messages of ``type`` (usable as decorator).

        :raises ValueError: if no type is given.
        """
        if fn is None:
            return lambda function: cls.register(function, type=type, post=post)
        if type is None:
            raise ValueError("an operation type is needed, e.g. register(type='sample')")
        setattr(cls, "_pyro_" + ("post_" if post else "") + type, fn)
        _forget_dispatch(cls)
        return fn

    @classmethod
    def unregister(cls, fn: Callable[..., Any] | None = None, type: str | None = None) -> Any:
        """Remove this class's methods for messages of ``type``."""
        if type is None:
            raise ValueError("an operation type is needed, e.g. unregister(type='sample')")
        for name in ("_pyro_post_" + type, "_pyro_" + type):
            if name in cls.__dict__:
                delattr(cls, name)
        _forget_dispatch(cls)
        return fn


def _forget_dispatch(cls: type[Messenger]) -> None:
    cls._before, cls._after = {}, {}
    for subclass in cls.__subclasses__():
        _forget_dispatch(subclass)


class BoundHandler:
    """A function together with the handler that it runs under; pickles and binds like a function."""

    def __init__(self, handler: Messenger, fn: Callable[..., Any]) -> None:
        # Only the names are copied: the attributes of a wrapped handler or module are not ours.
        functools.update_wrapper(self, fn, updated=())
        self.handler = handler
        self.fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.handler:
            return self.fn(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return functools.partial(self.__call__, instance)

    def __getattr__(self, name: str) -> Any:
        # Attributes of a wrapped object, e.g. of a module model, stay reachable.
        if name.startswith("__") or name in ("fn", "handler"):
            raise AttributeError(name)
        return getattr(self.fn, name)

    def __reduce__(self) -> Any:
        # A decorated module-level function is found by its name; its plain function would not be.
        module = sys.modules.get(getattr(self, "__module__", ""))
        name = getattr(self, "__qualname__", "")
        if getattr(module, name, None) is self:
            return name
        return type(self), (self.handler, self.fn)


def handler(cls: type[Messenger], name: str) -> Callable[..., Any]:
    """Make the function form of a handler class: ``name(fn, …)``, or without ``fn`` the handler itself."""

    def make(fn: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        if fn is not None and not (callable(fn) or isinstance(fn, Iterator)):
            raise ValueError(
                f"{fn!r} is not callable, did you mean to pass it as a keyword arg? "
                "The first argument of a handler is the function that it wraps."
            )
        messenger = cls(*args, **kwargs)
        return messenger if fn is None else messenger(fn)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = cls.__doc__
    make.__module__ = cls.__module__
    return make


def unwrap(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the innermost function under handlers and decorators."""
    while hasattr(fn, "__wrapped__"):
        fn = fn.__wrapped__
    return fn


@contextlib.contextmanager
def block_messengers(predicate: Callable[[Messenger], bool]) -> Iterator[list[Messenger]]:
    """Switch off, for the duration, every active handler for which ``predicate`` holds; yield them."""
    silent = "_process_message"
    blocked = [each for each in handler_stack() if silent not in each.__dict__ and predicate(each)]
    try:
        for each in blocked:
            # Shadowing on the instance keeps the handler's place in the stack.
            each.__dict__["_process_message"] = _ignore
            each.__dict__["_postprocess_message"] = _ignore
        yield blocked
    finally:
        for each in blocked:
            each.__dict__.pop("_process_message", None)
            each.__dict__.pop("_postprocess_message", None)


def _ignore(msg: Message) -> None:
    return None
