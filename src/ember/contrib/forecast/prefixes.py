"""Continue random series beyond the part that is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember.distributions.hidden_markov.time_slices import time_slice
from ember.errors import message
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message

RESIDUAL = "residual"


def prefix_condition(distribution: Any, data: Tensor) -> Any:
    """Return the distribution of the rest of a series, given its beginning.

    :param distribution: of event shape ``(T, obs_dim)``: one with a method ``prefix_condition``, or one
        whose values are independent over time.
    :param data: the first t steps, ``(..., t, obs_dim)``.
    :raises NotImplementedError: for other families.
    """
    if hasattr(distribution, "prefix_condition"):
        return distribution.prefix_condition(data)
    moved = getattr(distribution, "reinterpreted_batch_ndims", 0)
    if moved:
        base, time = distribution.base_dist, distribution.event_dim
        if base.event_dim >= time:
            return prefix_condition(base, data).to_event(moved)
        start, stop = data.shape[-time], distribution.event_shape[0]
        return time_slice(base, -moved, start, stop).to_event(moved)
    raise NotImplementedError(
        message(
            f"{type(distribution).__name__} cannot be continued from its beginning.",
            expected="a hidden Markov model, or independent noise",
            fix="give noise that is independent over time with event_dim 0 or 1",
        )
    )


class PrefixCondition(Messenger):
    """Condition sites on the beginnings of their values, which ``data`` holds by name."""

    def __init__(self) -> None:
        self.data: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Message) -> None:
        known = self.data.get(str(msg["name"]))
        if known is not None and not msg["is_observed"]:
            msg["fn"] = prefix_condition(msg["fn"], known)


class PrefixReplay(Messenger):
    """Give sites recorded values; where a site has become longer along one dim, its rest is drawn.

    :param values: recorded values by name.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        self.values = values

    def _pyro_post_sample(self, msg: Message) -> None:
        name = str(msg["name"])
        known = self.values.get(name)
        if known is None or name == RESIDUAL:
            return
        drawn: Any = msg["value"]
        if not isinstance(drawn, Tensor) or drawn.shape == known.shape:
            msg["value"] = known
            return
        differ = [
            dim for dim in range(drawn.dim()) if dim >= known.dim() or drawn.shape[dim] != known.shape[dim]
        ]
        if drawn.dim() != known.dim() or len(differ) != 1 or drawn.shape[differ[0]] < known.shape[differ[0]]:
            raise ValueError(
                message(
                    f"Site '{name}' cannot be continued.",
                    site=name,
                    expected=f"the recorded shape {tuple(known.shape)}, longer along one dim",
                    actual=tuple(drawn.shape),
                )
            )
        dim, length = differ[0], known.shape[differ[0]]
        msg["value"] = torch.cat([known, drawn.narrow(dim, length, drawn.shape[dim] - length)], dim)
