"""Be the base of strategies that rewrite sample sites."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ember.poutine.reparam_messenger import ReparamMessage, ReparamResult


class Reparam(ABC):
    """A strategy for ``poutine.reparam``; each instance may serve one site only, if it has parameters.

    During ``apply``, ``args_kwargs`` holds the model's arguments, or None.
    """

    args_kwargs: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    @abstractmethod
    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Return what the site becomes: its new distribution (or None for a computed value) and value.

        :param msg: dict with ``name``, ``fn``, ``value`` and ``is_observed``.
        """

    @staticmethod
    def _unwrap(fn: Any) -> tuple[Any, int]:
        """Return the distribution inside ``to_event`` wrappers, and the number of event dims they made."""
        event_dim = fn.event_dim
        while hasattr(fn, "reinterpreted_batch_ndims"):
            fn = fn.base_dist
        return fn, event_dim - fn.event_dim
