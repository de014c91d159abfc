"""Offer two small context managers that programs import from ``pyro.util``."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch


@contextlib.contextmanager
def optional(context_manager: AbstractContextManager[Any], condition: Any) -> Iterator[Any]:
    """Enter ``context_manager`` if ``condition`` holds, otherwise do nothing."""
    if not condition:
        yield None
        return
    with context_manager as value:
        yield value


@contextlib.contextmanager
def ignore_jit_warnings(filter: Any = None) -> Iterator[None]:
    """Silence the warnings of torch's tracer in a ``with`` block or a decorated function.

    :param filter: a list of messages, or of (message, category) pairs; by default every tracer warning.
    """
    with warnings.catch_warnings():
        if filter is None:
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        for each in filter or ():
            text, category = each if isinstance(each, tuple) else (each, torch.jit.TracerWarning)
            warnings.filterwarnings("ignore", category=category, message=text)
        yield
