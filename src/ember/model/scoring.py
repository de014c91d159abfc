"""Add up the log density of an execution on the fly, its latent values taken from a flat vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ember.distributions.scaling import scale_and_mask
from ember.errors import message
from ember.model.inspection import support_of
from ember.model.layout import Block, transform_of
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message


class SubstituteMessenger(Messenger):
    """Put the values at latent sites that belong to unconstrained ones; minibatches and params stay fixed.

    :param blocks: the latent sites.
    :param unconstrained: unconstrained values by site.
    :param minibatches: indices of subsampled plates by name.

    The log-determinants of the transforms are collected in ``terms``, the constrained values in ``values``.
    """

    def __init__(
        self, blocks: dict[str, Block], unconstrained: dict[str, Tensor], minibatches: dict[str, Tensor]
    ) -> None:
        self.blocks = blocks
        self.unconstrained = unconstrained
        self.minibatches = minibatches
        self.values: dict[str, Tensor] = {}
        self.terms: list[Tensor] = []

    def _process_message(self, msg: Message) -> None:
        if msg["type"] != "sample":
            return
        name = str(msg["name"])
        block = self.blocks.get(name)
        if block is not None:
            msg["value"] = self._constrain(block, msg["fn"])
            msg["is_observed"] = False
        elif not msg["is_observed"] and msg["value"] is None:
            if name in self.minibatches:
                msg["value"] = self.minibatches[name]
            else:
                _refuse_new_site(name)

    def _constrain(self, block: Block, fn: Any) -> Tensor:
        transform = block.transform
        x = self.unconstrained[block.name]
        if block.dynamic:
            transform = transform_of(support_of(fn), block.name)
        if transform is None:
            self.values[block.name] = x
            return x
        y: Tensor = transform(x)
        self.terms.append(transform.log_abs_det_jacobian(x, y))
        self.values[block.name] = y
        return y

    def _postprocess_message(self, msg: Message) -> None:
        if msg["type"] == "param":
            _detach_param(msg)

    def finish(self) -> None:
        """Refuse an execution that left out a latent site.

        :raises ValueError: naming the sites.
        """
        if len(self.values) != len(self.blocks):
            missing = [name for name in self.blocks if name not in self.values]
            raise ValueError(
                message(
                    f"latent sites {missing} of the first execution are missing in a later one",
                    expected="the same latent sites in every execution of the model",
                    fix="do not let control flow decide which sites there are; mask them out instead",
                )
            )


class DeterministicMessenger(SubstituteMessenger):
    """Keep the values of deterministic sites, in ``deterministics``."""

    def __init__(
        self, blocks: dict[str, Block], unconstrained: dict[str, Tensor], minibatches: dict[str, Tensor]
    ) -> None:
        super().__init__(blocks, unconstrained, minibatches)
        self.deterministics: dict[str, Tensor] = {}

    def _postprocess_message(self, msg: Message) -> None:
        super()._postprocess_message(msg)
        if msg["type"] == "sample" and msg["infer"].get("_deterministic"):
            self.deterministics[str(msg["name"])] = msg["value"]


class ScoreMessenger(SubstituteMessenger):
    """Also collect the log probability of every sample site, scaled and masked, in ``terms``."""

    def _postprocess_message(self, msg: Message) -> None:
        if msg["type"] == "sample":
            term = log_prob_of(msg, str(msg["name"]) in self.blocks)
            if term is not None:
                self.terms.append(term)
        elif msg["type"] == "param":
            _detach_param(msg)

    def total(self) -> Tensor:
        """Return the sum of all terms, a scalar."""
        result: Any = None
        for term in self.terms:
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


def log_prob_of(msg: Message, is_latent: bool) -> Tensor | None:
    """Return the log probability of a site's record, scaled and masked, or None if it does not count."""
    mask = msg["mask"]
    if mask is False or msg["infer"].get("_deterministic"):
        return None
    fn = msg["fn"]
    if type(fn).__name__ == "_Subsample":
        return None
    log_prob = fn.log_prob(msg["value"], *msg["args"], **msg["kwargs"])
    scale = msg["scale"]
    if is_latent and isinstance(mask, Tensor) and str(msg["name"]).endswith("_unobserved"):
        # The elements of a partly observed site that are observed have a latent twin which nothing reads. Its
        # prior integrates to one, so to keep it changes no other marginal, while without it the density were
        # improper.
        if isinstance(scale, (int, float)) and scale == 1:
            return log_prob
        return log_prob * torch.where(mask, scale, 1.0)
    return scale_and_mask(log_prob, scale, mask)


def _detach_param(msg: Message) -> None:
    value: Any = msg["value"]
    detached: Any = value.detach().to(torch.float64) if value.dtype.is_floating_point else value.detach()
    unconstrained = getattr(value, "unconstrained", None)
    if unconstrained is not None:  # enclosing plates look for the leaf
        detached._pyro_unconstrained_param = unconstrained()
    msg["value"] = detached


def _refuse_new_site(name: str) -> None:
    raise ValueError(
        message(
            f"latent site '{name}' was not there in the first execution of the model",
            site=name,
            expected="the same latent sites in every execution of the model",
            fix="do not let control flow decide which sites there are; mask them out instead",
        )
    )
