"""Change how sites count: mask their batch elements, or scale their log probabilities."""

from __future__ import annotations

from typing import Any

import torch

from ember import settings
from ember.errors import message
from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message


class MaskMessenger(Messenger):
    """Let only some batch elements of the sites inside count.

    :param mask: bool, or bool tensor that broadcasts to the sites' batch shapes. Nested masks combine
        by "and".
    :raises ValueError: if the mask is not boolean.
    """

    def __init__(self, mask: bool | torch.Tensor) -> None:
        if not (isinstance(mask, bool) or (isinstance(mask, torch.Tensor) and mask.dtype == torch.bool)):
            kind = f"a {mask.dtype} tensor" if isinstance(mask, torch.Tensor) else repr(mask)
            raise ValueError(
                message(
                    "Invalid mask", expected="a bool or a bool tensor", actual=kind, fix="use mask.bool()"
                )
            )
        self.mask = mask

    def _process_message(self, msg: Message) -> None:
        outer = msg["mask"]
        msg["mask"] = self.mask if outer is None else self.mask & outer


class ScaleMessenger(Messenger):
    """Multiply the log probabilities of the sites inside.

    :param scale: positive number or tensor. Nested scales multiply.
    :raises ValueError: if the scale is not positive; tensors are looked at where handlers validate.
    """

    def __init__(self, scale: float | torch.Tensor) -> None:
        if isinstance(scale, torch.Tensor):
            positive = not settings.read("validate_poutine") or bool((scale > 0).all())
        else:
            positive = scale > 0
        if not positive:
            raise ValueError(message("Invalid scale", expected="a positive scale", actual=repr(scale)))
        self.scale = scale

    def _process_message(self, msg: Message) -> None:
        msg["scale"] = self.scale * msg["scale"]


class InferConfigMessenger(Messenger):
    """Update the infer dict of each sample and param site by what a function of the site returns.

    :param config_fn: site record → dict.
    """

    def __init__(self, config_fn: Any) -> None:
        self.config_fn = config_fn

    def _pyro_sample(self, msg: Message) -> None:
        msg["infer"].update(self.config_fn(msg))

    def _pyro_param(self, msg: Message) -> None:
        msg["infer"].update(self.config_fn(msg))
