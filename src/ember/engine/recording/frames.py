"""Collect the inputs, constants and nodes of a program or region under construction."""

from __future__ import annotations

from typing import Any

import torch

from ember.engine.program import Node, Program, Value


class Frame:
    """A program or region under construction."""

    __slots__ = (
        "active",
        "closed",
        "constants",
        "counter",
        "differentiable",
        "first_autograd_node",
        "inputs",
        "key",
        "leaves",
        "nodes",
        "outer",
        "parent",
        "repeats",
    )

    def __init__(self, parent: Frame | None, differentiable: bool = False, repeats: bool = False) -> None:
        self.parent = parent
        self.differentiable = differentiable
        self.repeats = repeats  # runs more than once for each run of its parent
        self.key: torch.Tensor | None = None  # of the random operations in here
        # The traced int64 that says which of the repetitions this is, if something asked for it.
        self.counter: Any = None
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: dict[Value, torch.Tensor] = {}
        self.outer: dict[Value, Value] = {}  # value of the parent frame → input here
        # Tensors from outside that require a gradient, by id: with the leaf that stands for each in here ...
        self.leaves: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        # ... and those that were used as they are.
        self.closed: dict[int, torch.Tensor] = {}
        self.active = True
        # Autograd nodes of this frame have sequence numbers from here on.
        self.first_autograd_node: int = torch._C._autograd._get_sequence_nr()

    def program(self, outputs: list[Value]) -> Program:
        return Program(self.inputs + list(self.outer.values()), self.constants, self.nodes, outputs)
