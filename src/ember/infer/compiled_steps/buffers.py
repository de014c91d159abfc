"""Find the buffers of modules, and what a step makes of them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ember.engine.recording.refusal import NotCapturable


class Buffers:
    """The buffers of some modules: running statistics, counters, constants.

    :param modules: the modules.
    """

    def __init__(self, modules: Iterable[torch.nn.Module]) -> None:
        self._places: list[list[tuple[torch.nn.Module, str]]] = []  # where each is kept
        self.tensors: list[Tensor] = []
        known: dict[int, int] = {}
        for module in modules:
            for name, tensor in module._buffers.items():
                if tensor is None or not _is_plain(tensor):
                    continue
                place = known.setdefault(id(tensor), len(self.tensors))
                if place == len(self.tensors):
                    self.tensors.append(tensor)
                    self._places.append([])
                self._places[place].append((module, name))

    def values(self) -> list[Tensor]:
        """Return what the modules have now, which may be other tensors than at first.

        :raises NotCapturable: if one is no tensor of the same kind.
        """
        found = []
        for tensor, ((module, name), *_) in zip(self.tensors, self._places, strict=True):
            now = module._buffers.get(name)
            if now is None or now.shape != tensor.shape or now.dtype != tensor.dtype:
                raise NotCapturable(f"a step replaces the buffer '{name}' by something else")
            found.append(now)
        return found

    def put_back(self) -> None:
        """Give the modules the tensors that they had at first."""
        for tensor, places in zip(self.tensors, self._places, strict=True):
            for module, name in places:
                module._buffers[name] = tensor


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_complex() and not tensor.requires_grad
