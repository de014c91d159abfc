"""Execute a model with given values at its latent sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

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
            detach_param(msg)

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


class SubstituteMinibatches(Messenger):
    """Fix the indices of subsampled plates, and values of discrete latent sites.

    :param fixed: indices by plate, and values by site.
    """

    def __init__(self, fixed: dict[str, Tensor]) -> None:
        self.fixed = fixed

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.fixed and not msg["is_observed"]:
            msg["value"] = self.fixed[msg["name"]]


class UnconstrainMessenger(Messenger):
    """Put given constrained values at latent sites and note their unconstrained images."""

    def __init__(self, values: Mapping[str, Any], blocks: dict[str, Block]) -> None:
        self.values = values
        self.blocks = blocks
        self.unconstrained: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Message) -> None:
        block = self.blocks.get(str(msg["name"]))
        if block is None:
            return
        value = (
            torch.as_tensor(self.values[block.name])
            .detach()
            .to(torch.float64)
            .expand(block.constrained_shape)
        )
        transform = transform_of(support_of(msg["fn"]), block.name) if block.dynamic else block.transform
        self.unconstrained[block.name] = value if transform is None else transform.inv(value)
        msg["value"] = value


def detach_param(msg: Message) -> None:
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
