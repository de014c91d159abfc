"""Copy programs with values of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ember.engine.program import Node, Program, Value


def copy_program(program: Program, known: dict[Value, Value] | None = None) -> Program:
    """Return the same program on fresh values, regions included; constants' numbers are shared."""
    fresh: dict[Value, Value] = {} if known is None else known

    def new(value: Value) -> Value:
        if value not in fresh:
            fresh[value] = Value(value.shape, value.dtype)
        return fresh[value]

    inputs = [new(value) for value in program.inputs]
    constants = {new(value): tensor for value, tensor in program.constants.items()}
    nodes = [copy_node(node, new) for node in program.nodes]
    return Program(inputs, constants, nodes, [new(value) for value in program.outputs])


def copy_node(node: Node, new: Any) -> Node:
    """Return the same operation on the values that ``new`` maps its own to."""
    return replace(
        node,
        args=map_values(node.args, new),
        kwargs={name: map_values(each, new) for name, each in node.kwargs.items()},
        outputs=tuple(new(output) for output in node.outputs),
        regions=tuple(copy_program(region) for region in node.regions),
    )


def map_values(item: Any, new: Any) -> Any:
    """Apply ``new`` to every value in nested tuples and lists."""
    if isinstance(item, Value):
        return new(item)
    if isinstance(item, (list, tuple)):
        return type(item)(map_values(each, new) for each in item)
    return item
