"""Answer for sites that a reparameteriser leaves alone or cannot rewrite."""

from __future__ import annotations

from typing import Any, NoReturn

from ember.errors import message
from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult


def kept(msg: ReparamMessage) -> ReparamResult:
    """Return the site as it is."""
    return {"fn": msg["fn"], "value": msg["value"], "is_observed": msg["is_observed"]}


def refuse(reparam: Any, msg: ReparamMessage, expected: str) -> NoReturn:
    """Raise ValueError that names the site and what the reparameteriser takes."""
    fn = msg["fn"]
    while hasattr(fn, "reinterpreted_batch_ndims"):
        fn = fn.base_dist
    raise ValueError(
        message(
            f"{type(reparam).__name__} cannot rewrite site '{msg['name']}'",
            site=msg["name"],
            expected=expected,
            actual=type(fn).__name__,
        )
    )
