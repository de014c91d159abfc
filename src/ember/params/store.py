"""Hold the current parameter store: a default instance, replaced per context where asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ember.params.param_store import ParamStoreDict

_default = ParamStoreDict()
_current: ContextVar[ParamStoreDict | None] = ContextVar("ember_param_store", default=None)


def get_param_store() -> ParamStoreDict:
    """Return the current parameter store."""
    store = _current.get()
    return _default if store is None else store


def clear_param_store() -> None:
    """Empty the current parameter store.

    Do so before each training run in an interactive session and before each unit test, so that parameters of
    past models do not leak.
    """
    get_param_store().clear()


@contextmanager
def use_param_store(store: ParamStoreDict) -> Iterator[ParamStoreDict]:
    """Make ``store`` the current one in this context, for example in a thread of its own."""
    token = _current.set(store)
    try:
        yield store
    finally:
        _current.reset(token)
