"""Force sites that match names or patterns to share the first one's value."""

from __future__ import annotations

import re
from typing import Any

from ember.distributions import Delta
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message


class EqualizeMessenger(Messenger):
    """Give every matching site the value of the first matching one.

    :param sites: a regular expression or a list of them, matched against whole names.
    :param type: "sample" or "param".
    :param keep_dist: keep the distributions of the later sample sites (their density then counts too);
        by default later sites become deterministic copies.
    """

    def __init__(self, sites: str | list[str], type: str = "sample", keep_dist: bool | None = False) -> None:
        self.sites = [sites] if isinstance(sites, str) else list(sites)
        self.type = type
        self.keep_dist = keep_dist
        self._value: Any = None

    def __enter__(self) -> Any:
        self._value = None
        return super().__enter__()

    def _reset(self) -> None:
        self._value = None

    def _matches(self, msg: Message) -> bool:
        return any(re.compile(pattern).fullmatch(str(msg["name"])) for pattern in self.sites)

    def _process_message(self, msg: Message) -> None:
        if msg["type"] != self.type or self._value is None or not self._matches(msg):
            return
        msg["value"] = self._value
        if self.type == "param":
            msg["done"] = True
        elif self.keep_dist:
            msg["is_observed"] = True
        else:
            event_dim = getattr(msg["fn"], "event_dim", 0)
            msg["fn"] = Delta(self._value, event_dim=event_dim).mask(False)
            msg["infer"] = {"_deterministic": True}
            msg["is_observed"] = True

    def _postprocess_message(self, msg: Message) -> None:
        if msg["type"] == self.type and self._value is None and self._matches(msg):
            self._value = msg["value"]
