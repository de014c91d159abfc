"""Replace params: by given values, or by draws from priors."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any

from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message


class SubstituteMessenger(Messenger):
    """Give param sites the values of a dict.

    :param data: values by param name. Names that no param site asked for give a warning on exit.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self._used: set[str] = set()

    def __enter__(self) -> Any:
        self._used = set()
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if exc_type is None:
            _warn_unused(self.data, self._used, "substitute")
        return super().__exit__(exc_type, exc_value, traceback)

    def _pyro_param(self, msg: Message) -> None:
        name = str(msg["name"])
        if name in self.data:
            self._used.add(name)
            msg["value"] = self.data[name]
            msg["done"] = True


class LiftMessenger(Messenger):
    """Turn param sites into latent sample sites.

    :param prior: a distribution or stochastic function for every param, or a dict of them by param name
        (without the module's prefix). A param draws once per run; it does not enter the store.
    """

    def __init__(self, prior: Any) -> None:
        self.prior = prior
        self._drawn: dict[str, Any] = {}
        self._pending: set[str] = set()
        self._used: set[str] = set()

    def __enter__(self) -> Any:
        self._drawn = {}
        self._used = set()
        return super().__enter__()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._drawn = {}
        if exc_type is None and isinstance(self.prior, dict):
            _warn_unused(self.prior, self._used, "lift")
        return super().__exit__(exc_type, exc_value, traceback)

    def _reset(self) -> None:
        self._drawn = {}

    def _prior_of(self, msg: Message) -> Any:
        if not isinstance(self.prior, dict):
            return self.prior
        full_name = str(msg["name"])
        # Params of modules are named MODULE$$$PARAM; priors are keyed by the part that the module knows.
        for name in (full_name.rpartition("$$$")[2], full_name):
            if name in self.prior:
                self._used.add(name)
                return self.prior[name]
        return None

    def _pyro_param(self, msg: Message) -> None:
        prior = self._prior_of(msg)
        if prior is None:
            return
        name = str(msg["name"])
        msg["type"] = "sample"
        msg["fn"] = prior
        msg["is_observed"] = False
        if hasattr(prior, "log_prob"):
            msg["args"], msg["kwargs"], msg["infer"] = (), {}, {}
        else:
            # A stochastic function makes sites of its own and is given the initial value, if there is one.
            msg["args"], msg["infer"] = msg["args"][1:], {"_do_not_trace": True, "is_auxiliary": True}
        if name in self._drawn:
            # The site is known already, inside and outside: hide the repetition.
            msg["infer"] = {"_do_not_trace": True}
            msg["value"] = self._drawn[name]
            msg["done"] = True
            msg["stop"] = True
        else:
            self._pending.add(name)

    def _pyro_post_sample(self, msg: Message) -> None:
        name = str(msg["name"])
        if name in self._pending:
            self._pending.discard(name)
            self._drawn[name] = msg["value"]


def _warn_unused(data: dict[str, Any], used: set[str], what: str) -> None:
    unused = sorted(str(name) for name in data if name not in used)
    if unused:
        warnings.warn(
            f"poutine.{what} has entries that no param site used: {', '.join(unused)}; "
            "check their names against the param sites of the model",
            stacklevel=3,
        )
