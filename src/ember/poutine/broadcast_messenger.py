"""Expand distributions to the sizes of the enclosing plates."""

from __future__ import annotations

from typing import Any

from ember.errors import message
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message


class BroadcastMessenger(Messenger):
    """Expand the distribution of each sample site to the sizes of the plates in its ``cond_indep_stack``."""

    def _pyro_sample(self, msg: Message) -> None:
        broadcast_site(msg)


def broadcast_site(msg: Message) -> None:
    """Replace the site's distribution by one whose batch shape has the plates' sizes; never its value.

    :raises ValueError: if the batch shape has another size than 1 or the plate's at a plate's dimension.
    """
    fn = msg["fn"]
    batch_shape = getattr(fn, "batch_shape", None)
    if batch_shape is None:  # a stochastic function, or a plate's own draw of indices
        return
    target: list[Any] | None = None
    ndim = len(batch_shape)
    for frame in msg["cond_indep_stack"]:
        dim, size = frame.dim, frame.size
        if dim is None or (isinstance(size, int) and size == -1):
            continue
        if -dim <= ndim:
            actual = batch_shape[dim]
            if actual == size:
                continue
            if actual != 1:
                _refuse_size(msg, frame, actual, batch_shape)
        if target is None:
            target = list(batch_shape)
        while len(target) < -dim:
            target.insert(0, 1)
        target[dim] = int(size)
    if target is not None:
        expanded = fn.expand(target)
        if expanded.has_rsample != fn.has_rsample:
            expanded.has_rsample_(fn.has_rsample)
        msg["fn"] = expanded


def _refuse_size(msg: Message, frame: Any, actual: int, batch_shape: Any) -> None:
    raise ValueError(
        message(
            f"Shape mismatch inside plate('{frame.name}') at site {msg['name']} dim {frame.dim}, "
            f"{frame.size} vs {actual}",
            site=msg["name"],
            plates=msg["cond_indep_stack"],
            expected=f"size 1 or {frame.size} at dim {frame.dim} of the batch shape",
            actual=f"batch_shape {tuple(batch_shape)}",
            fix="declare event dimensions by .to_event(n), or give the plate another size or dim",
        )
    )
