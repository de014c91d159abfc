"""Hide sites from the handlers outside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message


def _predicate(
    hide_all: bool,
    expose_all: bool,
    hide: Iterable[str] | None,
    expose: Iterable[str] | None,
    hide_types: Iterable[str] | None,
    expose_types: Iterable[str] | None,
) -> Callable[[Message], bool]:
    """Combine the criteria; whatever is named on one side is decided by that side."""
    if expose is not None or expose_types is not None:
        # Naming what to expose hides the rest.
        hide_all, expose_all = True, False
    elif hide is not None or hide_types is not None:
        hide_all, expose_all = False, True
    elif expose_all:
        hide_all = False
    hidden, exposed = set(hide or ()), set(expose or ())
    hidden_types, exposed_types = set(hide_types or ()), set(expose_types or ())
    for one, other, what in ((hidden, exposed, "sites"), (hidden_types, exposed_types, "types")):
        both = one & other
        if both:
            raise ValueError(f"block cannot hide and expose the same {what}: {sorted(both)}")

    # Named functions, so that what they hide sites of can be pickled.
    return functools.partial(_hides, hide_all, hidden, exposed, hidden_types, exposed_types)


def _hides(
    hide_all: bool,
    hidden: set[str],
    exposed: set[str],
    hidden_types: set[str],
    exposed_types: set[str],
    msg: Message,
) -> bool:
    name, kind = msg["name"], msg["type"]
    if kind == "sample" and msg["is_observed"]:
        kind_names = {"observe", "sample"} if "sample" in hidden_types | exposed_types else {"observe"}
    else:
        kind_names = {kind}
    if name in exposed or kind_names & exposed_types:
        return False
    if name in hidden or kind_names & hidden_types:
        return True
    return hide_all


def _shown_not(show: Callable[[Message], bool | None], msg: Message) -> bool:
    return not show(msg)


class BlockMessenger(Messenger):
    """Hide the chosen sites from handlers outside; by default all of them.

    :param hide_fn: function of the site record: True hides it.
    :param expose_fn: function of the site record: True shows it.
    :param hide_all: hide every site.
    :param expose_all: hide none.
    :param hide: names to hide; the others are exposed.
    :param expose: names to expose; the others are hidden.
    :param hide_types: site types to hide ("sample", "param", …; "observe" for observed sites only).
    :param expose_types: site types to expose.
    :raises ValueError: for contradicting criteria.
    """

    def __init__(
        self,
        hide_fn: Callable[[Message], bool | None] | None = None,
        expose_fn: Callable[[Message], bool | None] | None = None,
        hide_all: bool = True,
        expose_all: bool = False,
        hide: Iterable[str] | None = None,
        expose: Iterable[str] | None = None,
        hide_types: Iterable[str] | None = None,
        expose_types: Iterable[str] | None = None,
    ) -> None:
        if hide_fn is not None and expose_fn is not None:
            raise ValueError("block takes hide_fn or expose_fn, not both")
        self._hides: Callable[[Message], Any]
        if hide_fn is not None:
            self._hides = hide_fn
        elif expose_fn is not None:
            self._hides = functools.partial(_shown_not, expose_fn)
        else:
            self._hides = _predicate(hide_all, expose_all, hide, expose, hide_types, expose_types)

    def _process_message(self, msg: Message) -> None:
        if self._hides(msg):
            msg["stop"] = True
