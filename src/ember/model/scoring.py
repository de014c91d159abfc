"""Add up the log density of an execution on the fly, its latent values taken from a flat vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember.distributions.scaling import scale_and_mask
from ember.engine.recording.origins import in_site
from ember.model.layout import Block
from ember.model.substitution import SubstituteMessenger, detach_param
from ember.poutine.runtime import Message


class ScoreMessenger(SubstituteMessenger):
    """Also collect the log probability of every sample site, scaled and masked, in ``terms``."""

    def _postprocess_message(self, msg: Message) -> None:
        if msg["type"] == "sample":
            term = log_prob_of(msg, str(msg["name"]) in self.blocks)
            if term is not None:
                self.terms.append(term)
        elif msg["type"] == "param":
            detach_param(msg)

    def total(self) -> Tensor:
        """Return the sum of all terms, a scalar."""
        by_shape: dict[torch.Size, Tensor] = {}
        for term in self.terms:
            known = by_shape.get(term.shape)
            by_shape[term.shape] = term if known is None else known + term
        result: Any = None
        for term in by_shape.values():
            part = term.sum() if term.ndim else term
            result = part if result is None else result + part
        return torch.zeros(()) if result is None else result


class RecordMessenger(ScoreMessenger):
    """Also keep each site's record with its part of the density, to say where it is not finite."""

    def __init__(
        self, blocks: dict[str, Block], unconstrained: dict[str, Tensor], minibatches: dict[str, Tensor]
    ) -> None:
        super().__init__(blocks, unconstrained, minibatches)
        self.records: list[tuple[str, Any, Any, float]] = []  # name, distribution, value, log density

    def _postprocess_message(self, msg: Message) -> None:
        before = len(self.terms)
        super()._postprocess_message(msg)
        if len(self.terms) > before:
            self.records.append((str(msg["name"]), msg["fn"], msg["value"], float(self.terms[-1].sum())))


def counts(msg: Message) -> bool:
    """Say whether a sample site's record is part of the density."""
    return not (
        msg["mask"] is False or msg["infer"].get("_deterministic") or type(msg["fn"]).__name__ == "_Subsample"
    )


def log_prob_of(msg: Message, is_latent: bool) -> Tensor | None:
    """Return the log probability of a site's record, scaled and masked, or None if it does not count."""
    if not counts(msg):
        return None
    name, fn = str(msg["name"]), msg["fn"]
    log_prob = in_site(name, lambda: fn.log_prob(msg["value"], *msg["args"], **msg["kwargs"]))
    return weigh(msg, log_prob, is_latent)


def weigh(msg: Message, log_prob: Tensor, is_latent: bool) -> Tensor:
    """Scale and mask the log probability of a site's record."""
    mask, scale = msg["mask"], msg["scale"]
    if is_latent and isinstance(mask, Tensor) and str(msg["name"]).endswith("_unobserved"):
        # The elements of a partly observed site that are observed have a latent twin which nothing reads. Its
        # prior integrates to one, so to keep it changes no other marginal, while without it the density were
        # improper.
        if isinstance(scale, (int, float)) and scale == 1:
            return log_prob
        return log_prob * torch.where(mask, scale, 1.0)
    weighed: Tensor = scale_and_mask(log_prob, scale, mask)
    return weighed
