"""Rewrite sample sites by reparameterisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypedDict

from ember.distributions import Delta
from ember.errors import message
from ember.poutine.messenger import BoundHandler, Messenger
from ember.poutine.runtime import Message


class ReparamMessage(TypedDict):
    """What a reparameteriser is given about a site."""

    name: str
    fn: Any
    value: Any
    is_observed: Any


class ReparamResult(TypedDict):
    """What a reparameteriser makes of a site."""

    fn: Any
    value: Any
    is_observed: bool


class Reparameteriser(Protocol):
    """Anything that rewrites a site; its ``apply`` may call ``sample`` for auxiliary sites."""

    def apply(self, msg: ReparamMessage) -> ReparamResult: ...


ReparamConfig = dict[str, Reparameteriser] | Callable[[Message], Reparameteriser | None]


class ReparamMessenger(Messenger):
    """Rewrite sample sites.

    :param config: dict from site name to reparameteriser, or a function of the site record that returns one
        or None.
    """

    def __init__(
        self, config: dict[str, Reparameteriser] | Callable[[Message], Reparameteriser | None]
    ) -> None:
        self.config = config
        self._args_kwargs: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def __call__(self, fn: Callable[..., Any]) -> ReparamHandler:
        super().__call__(fn)
        return ReparamHandler(self, fn)

    def _pyro_sample(self, msg: Message) -> None:
        name = str(msg["name"])
        reparam: Any = self.config.get(name) if isinstance(self.config, dict) else self.config(msg)
        if reparam is None:
            return
        reparam.args_kwargs = self._args_kwargs
        try:
            new = reparam.apply(
                {"name": name, "fn": msg["fn"], "value": msg["value"], "is_observed": msg["is_observed"]}
            )
        finally:
            reparam.args_kwargs = None
        if new["fn"] is None:
            # A computed value with a distribution is a term of the density, and not deterministic.
            new = self._deterministic(msg, new)
            msg["infer"]["_deterministic"] = True
        msg["fn"] = new["fn"]
        msg["value"] = new["value"]
        msg["is_observed"] = new["is_observed"]

    @staticmethod
    def _deterministic(msg: Message, new: ReparamResult) -> ReparamResult:
        """Turn a site whose value the reparameteriser computed into a deterministic one, of equal shape."""
        value, event_dim = new["value"], msg["fn"].event_dim
        expected = tuple(msg["fn"].event_shape)
        if tuple(value.shape[value.ndim - event_dim :]) != expected:
            raise ValueError(
                message(
                    f"reparameterisation of site '{msg['name']}' changed its event shape",
                    site=msg["name"],
                    expected=expected,
                    actual=tuple(value.shape[value.ndim - event_dim :]),
                )
            )
        return {"fn": Delta(value, event_dim=event_dim).mask(False), "value": value, "is_observed": True}


class ReparamHandler(BoundHandler):
    """A reparameterised function; reparameterisers see its arguments."""

    handler: ReparamMessenger

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.handler._args_kwargs = args, kwargs
        try:
            with self.handler:
                return self.fn(*args, **kwargs)
        finally:
            self.handler._args_kwargs = None
