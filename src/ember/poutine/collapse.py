"""Refuse to sum sites out lazily, and name what does it instead."""

from __future__ import annotations

from typing import Any

from ember.errors import message


def collapse(*args: Any, **kwargs: Any) -> Any:
    """Refuse: lazy summation inside a model, an experiment of Pyro's on top of funsor, is not offered.

    :raises NotImplementedError: at every use.
    """
    raise NotImplementedError(
        message(
            "poutine.collapse is not offered",
            expected="sites that inference sums out",
            fix="use TraceEnum_ELBO, or NUTS, which sum discrete sites out, infer_discrete to draw them, and "
            "GaussianHMM or DiscreteHMM for chains; barrier is the identity",
        )
    )
