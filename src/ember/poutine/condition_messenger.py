"""Turn latent sites into observed ones, and back."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from ember.poutine.messenger import Messenger
from ember.poutine.runtime import Message
from ember.poutine.trace_struct import Trace


class ConditionMessenger(Messenger):
    """Fix the values of sample sites and mark them observed.

    :param data: values by site name, or a Trace. None makes an observed site latent.
    """

    def __init__(self, data: dict[str, Any] | Trace) -> None:
        self.data = data

    def _pyro_sample(self, msg: Message) -> None:
        name = str(msg["name"])
        if name not in self.data:
            return
        value = self.data.nodes[name]["value"] if isinstance(self.data, Trace) else self.data[name]
        msg["value"] = value
        msg["is_observed"] = value is not None


class UnconditionMessenger(Messenger):
    """Draw observed sites anew, keeping the observation in ``infer``; deterministic and factor sites stay."""

    def _pyro_sample(self, msg: Message) -> None:
        if not msg["is_observed"]:
            return
        if msg["infer"].get("_deterministic") or type(msg["fn"]).__name__ == "Unit":
            return
        msg["is_observed"] = False
        msg["infer"]["was_observed"] = True
        msg["infer"]["obs"] = msg["value"]
        msg["value"] = None
        msg["done"] = False


class DoMessenger(Messenger):
    """Intervene: sites keep their draw outside, while downstream code uses the given value.

    Handlers inside this one see the fixed copy, observed, under the name ``NAME__CF``.

    :param data: values by site name; numbers, tensors, or functions from the drawn to the fixed value.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def _pyro_post_sample(self, msg: Message) -> None:
        name = str(msg["name"])
        original = name.removesuffix("__CF")
        if original != name and original in self.data:
            warnings.warn(
                f"Attempting to intervene on variable {original} multiple times, this is almost certainly "
                "incorrect behavior; the innermost value is used",
                RuntimeWarning,
                stacklevel=2,
            )
            name = original
        intervention = self.data.get(name)
        if intervention is None:
            return
        if callable(intervention):
            intervention = intervention(msg["value"])
        elif not isinstance(intervention, (int, float, torch.Tensor)):
            raise TypeError(
                f"do() fixes sites to numbers, tensors or functions of the drawn value, not to "
                f"{type(intervention).__name__} (site '{name}')"
            )
        msg["name"] = name + "__CF"
        msg["value"] = intervention
        msg["is_observed"] = True
        msg["infer"] = dict(msg["infer"])
