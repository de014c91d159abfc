"""Draw discrete sites from their posterior given everything else, or take their most probable values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from ember import poutine, settings
from ember.errors import message
from ember.infer.objectives.enumerated_bound import (
    group_like_sites,
    model_factors,
    variables_of,
    warn_if_none_marked,
)
from ember.poutine.elimination.backward_draws import draw_backward, values_of
from ember.poutine.elimination.contraction import log_max
from ember.poutine.elimination.factors import log_sum_exp
from ember.poutine.elimination.sum_product import eliminate
from ember.poutine.enum_messenger import EnumMessenger
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message
from ember.poutine.shape_table import shapes_in_errors
from ember.poutine.trace_struct import Trace


def infer_discrete(
    fn: Callable[..., Any] | None = None,
    first_available_dim: int | None = None,
    temperature: int = 1,
    *,
    strict_enumeration_warning: bool = True,
) -> Any:
    """Return ``fn`` with the sites marked for enumeration drawn from their posterior given the rest.

    Each call runs ``fn`` twice: enumerated, and with the drawn values. Observed values and those of handlers
    inside and around count; so it goes into ``Predictive`` with posterior draws of the continuous sites.

    :param fn: a model; without it a decorator is returned.
    :param first_available_dim: a dim left of all plates, e.g. ``-1 - max_plate_nesting``.
    :param temperature: 1 for joint draws (forward filter, backward sample), 0 for the jointly most probable
        values (Viterbi).
    :param strict_enumeration_warning: whether to warn (under validation) if no site is marked.
    :raises ValueError: for other temperatures or a dim that is missing or not negative.
    """
    if temperature not in (0, 1):
        raise ValueError(
            message(
                "infer_discrete: this temperature is not offered",
                expected="0 (most probable values) or 1 (draws)",
                actual=f"temperature={temperature!r}",
            )
        )
    if first_available_dim is None or first_available_dim >= 0:
        raise ValueError(
            message(
                "infer_discrete needs a negative first_available_dim",
                expected="a dim left of all plates, e.g. -1 - max_plate_nesting",
                actual=f"first_available_dim={first_available_dim}",
            )
        )
    if fn is None:
        return lambda function: infer_discrete(
            function,
            first_available_dim,
            temperature,
            strict_enumeration_warning=strict_enumeration_warning,
        )
    return _Inferred(fn, first_available_dim, int(temperature), strict_enumeration_warning)


class _Inferred:
    """A model whose discrete sites are drawn from their posterior in each call."""

    def __init__(
        self, fn: Callable[..., Any], first_available_dim: int, temperature: int, warns: bool
    ) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.first_available_dim = first_available_dim
        self.temperature = temperature
        self.warns = warns

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            with _Rehearsal():
                enumerated = EnumMessenger(self.first_available_dim)(self.fn)
                recorded = poutine.trace(enumerated).get_trace(*args, **kwargs)
            if self.warns and settings.read("validate_infer"):
                warn_if_none_marked("infer_discrete", recorded)
            drawn = draw_discrete(recorded, self.temperature)
        return poutine.replay(self.fn, trace=drawn)(*args, **kwargs)


class _Rehearsal(Messenger):
    """Keep sites from being recorded further out, and from masks further out; their values still come."""

    def __init__(self) -> None:
        self._masks: list[Any] = []

    def _pyro_sample(self, msg: Message) -> None:
        # A recorder inside reads a copy of the dict that is made here.
        self._masks.append((msg["mask"], msg["infer"]))
        msg["infer"] = {**msg["infer"], "_do_not_trace": True}

    def _pyro_post_sample(self, msg: Message) -> None:
        mask, infer = self._masks.pop()
        msg["mask"] = mask
        infer.update({key: value for key, value in msg["infer"].items() if key != "_do_not_trace"})
        msg["infer"] = infer


def draw_discrete(recorded: Trace, temperature: int) -> Trace:
    """Return a trace of latent values to replay: enumerated sites drawn from their posterior, others kept.

    Latent values that depend on enumerated sites are left out, to be drawn anew.

    :param recorded: a trace with enumerated sites.
    :param temperature: 1 for draws, 0 for the most probable values.
    """
    variables = variables_of(recorded)
    following = {
        name
        for name, site in recorded.nodes.items()
        if site["type"] == "sample"
        and not site["is_observed"]
        and site["infer"].get("_enumerate_dim") is None
        and _depends_on_enumerated(site)
    }
    scored = recorded.copy()
    for name in following:
        scored.remove_node(name)
    group_like_sites(scored, None)
    with shapes_in_errors(scored.nodes):
        factors = model_factors(scored, variables, best=temperature == 0)
        _, steps = eliminate(factors, variables, reduce=log_sum_exp if temperature else log_max)
    drawn = draw_backward(steps, temperature)
    result = Trace()
    for name, site in recorded.nodes.items():
        if site["type"] != "sample" or site["is_observed"] or name in following:
            continue
        new = site.copy()
        infer = {key: value for key, value in site["infer"].items() if key not in _OF_ENUMERATION}
        dim = site["infer"].get("_enumerate_dim")
        if dim is not None:
            new["value"] = values_of(site, drawn[site["infer"]["_dim_to_id"][dim]])
        new["infer"] = infer
        result.add_record(name, new)
    return result


_OF_ENUMERATION = ("_enumerate_dim", "_first_enumerate_dim", "_dim_to_id", "enumerate")


def _depends_on_enumerated(site: Any) -> bool:
    value = site["value"]
    batch = value.shape[: value.ndim - len(getattr(site["fn"], "event_shape", ()))]
    scope = site["infer"].get("_dim_to_id", {})
    return any(-dim <= len(batch) and batch[dim] > 1 for dim in scope)
