"""Mark the discrete sites of a program for enumeration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ember.poutine.runtime import Message
from ember.poutine.weight_messengers import InferConfigMessenger


def config_enumerate(
    guide: Callable[..., Any] | None = None,
    default: str | None = "parallel",
    expand: bool = False,
    num_samples: int | None = None,
    tmc: str = "diagonal",
) -> Any:
    """Mark each latent site with a finite support for enumeration, unless the site says something itself.

    :param guide: a model or guide; without it a decorator is returned.
    :param default: "parallel", "sequential" or None (leaves the sites as they are).
    :param expand: whether enumerated values are expanded over the whole batch shape.
    :param num_samples: draws in place of the support; passed on to inference.
    :param tmc: "diagonal" or "mixture"; passed on to inference.
    :raises ValueError: for other values.
    """
    if default not in ("parallel", "sequential", None):
        raise ValueError(
            f"config_enumerate: default must be 'parallel', 'sequential' or None, got {default!r}"
        )
    if not isinstance(expand, bool):
        raise ValueError(f"config_enumerate: expand must be True or False, got {expand!r}")
    if num_samples is not None:
        if not (isinstance(num_samples, int) and num_samples > 0):
            raise ValueError(
                f"config_enumerate: num_samples must be a positive int or None, got {num_samples!r}"
            )
        if default == "sequential":
            raise ValueError('config_enumerate: num_samples needs default="parallel"')
    if tmc not in ("diagonal", "mixture"):
        raise ValueError(f"config_enumerate: tmc must be 'diagonal' or 'mixture', got {tmc!r}")
    if num_samples is None and default is not None:
        options: dict[str, Any] = {"enumerate": default, "expand": expand}
    else:
        options = {"enumerate": default, "expand": expand, "num_samples": num_samples, "tmc": tmc}

    # A named function, so that what it marks can be pickled.
    handler = InferConfigMessenger(functools.partial(_choose, options, num_samples is not None))
    return handler if guide is None else handler(guide)


def _choose(options: dict[str, Any], draws: bool, site: Message) -> dict[str, Any]:
    """Return what to add to a site's ``infer``; with ``draws``, its support need not be finite."""
    chosen = (
        options["enumerate"] is not None
        and site["type"] == "sample"
        and not site["is_observed"]
        and (draws or getattr(site["fn"], "has_enumerate_support", False))
        and type(site["fn"]).__name__ != "_Subsample"
    )
    return {key: value for key, value in options.items() if key not in site["infer"]} if chosen else {}
