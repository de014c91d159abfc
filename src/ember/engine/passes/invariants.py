"""Move what stays the same in every iteration out of loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ember.engine.passes.copying import copy_node, map_values
from ember.engine.program import Node, Program, Value

# Cheap to compute again wherever they are read, and cheaper fused than stored.
_CHEAP = {
    "full", "view", "expand", "permute", "transpose", "t", "select", "slice", "diagonal", "unfold",
    "as_strided", "flip", "_to_copy", "clone", "add", "sub", "rsub", "mul", "neg", "abs", "where",
    "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "maximum",
    "minimum", "clamp", "sign",
}  # fmt: skip
_SMALL = 16


def hoist_invariants(program: Program) -> Program:
    """Compute what does not depend on a loop's carry or slices before it; close over constant carries.

    Cheap operations on larger tensors stay inside, where they fuse with what reads them.
    """
    nodes: list[Node] = []
    constants = dict(program.constants)
    replaced: dict[Value, Value] = {}

    def current(value: Value) -> Value:
        return replaced.get(value, value)

    for node in program.nodes:
        if node.regions:
            node = replace(
                node,
                args=map_values(node.args, current),
                regions=tuple(hoist_invariants(region) for region in node.regions),
            )
            if node.op in ("while_loop", "scan"):
                node, gone = _close_over_constant_carries(node)
                replaced.update(gone)
                node = _hoist(node, nodes, constants)
        elif replaced:
            node = replace(
                node,
                args=map_values(node.args, current),
                kwargs={name: map_values(each, current) for name, each in node.kwargs.items()},
            )
        nodes.append(node)
    return Program(program.inputs, constants, nodes, [current(value) for value in program.outputs])


def _close_over_constant_carries(node: Node) -> tuple[Node, dict[Value, Value]]:
    """Turn carries that the body hands on unchanged into closed-over values."""
    body = node.regions[-1]
    carry, *middle, outer = node.args
    count = len(carry)
    kept = [index for index in range(count) if body.outputs[index] is not body.inputs[index]]
    if len(kept) == count or (not kept and node.op == "while_loop"):
        return node, {}
    fixed = [index for index in range(count) if index not in kept]
    regions = []
    for region in node.regions:
        inputs = [region.inputs[index] for index in kept] + region.inputs[count:]
        inputs += [region.inputs[index] for index in fixed]
        outputs = region.outputs
        if region is body:
            outputs = [region.outputs[index] for index in kept] + region.outputs[count:]
        regions.append(Program(inputs, region.constants, region.nodes, outputs))
    attributes = {**node.attributes, "num_carry": len(kept)} if node.op == "scan" else node.attributes
    args = (tuple(carry[index] for index in kept), *middle, (*outer, *(carry[index] for index in fixed)))
    results = tuple(node.outputs[index] for index in kept) + node.outputs[count:]
    changed = replace(node, args=args, regions=tuple(regions), outputs=results, attributes=attributes)
    return changed, {node.outputs[index]: carry[index] for index in fixed}


def _hoist(node: Node, before: list[Node], constants: dict[Value, Any]) -> Node:
    """Append the invariant operations of a loop's regions to ``before``, and let the loop close over them."""
    *leading, closed = node.args
    outer = list(closed)
    rests: list[tuple[Program, list[Value]]] = []
    for region in node.regions:
        first = len(region.inputs) - len(closed)
        outside = dict(zip(region.inputs[first:], closed, strict=True))
        chosen = _worth_hoisting(region, set(outside))

        def new(value: Value, region: Program = region, outside: dict[Value, Value] = outside) -> Value:
            if value not in outside:
                outside[value] = Value(value.shape, value.dtype)
                if value in region.constants:
                    constants[outside[value]] = region.constants[value]
            return outside[value]

        before.extend(copy_node(each, new) for each in chosen.values())
        remaining = [each for each in region.nodes if id(each) not in chosen]
        read = {value for each in remaining for value in each.inputs()} | set(region.outputs)
        lifted = [output for each in chosen.values() for output in each.outputs if output in read]
        outer += [outside[value] for value in lifted]
        rests.append((Program(region.inputs, region.constants, remaining, region.outputs), lifted))
    regions = []
    for region, lifted in rests:
        # Every region takes what any of them lifted, in the same order.
        inputs = list(region.inputs)
        for _, values in rests:
            inputs += values if values is lifted else [Value(value.shape, value.dtype) for value in values]
        regions.append(Program(inputs, region.constants, region.nodes, region.outputs))
    return replace(node, args=(*leading, tuple(outer)), regions=tuple(regions))


def _worth_hoisting(region: Program, known: set[Value]) -> dict[int, Node]:
    """Choose the invariant nodes to move: the expensive and the small ones, and what these need."""
    invariant = known | set(region.constants)
    producer: dict[Value, Node] = {}
    wanted: list[Node] = []
    for node in region.nodes:
        if node.regions or not all(value in invariant for value in node.inputs()):
            continue
        invariant.update(node.outputs)
        producer.update((output, node) for output in node.outputs)
        small = all(math.prod(output.shape) <= _SMALL for output in node.outputs)
        if node.op.split(".")[1] not in _CHEAP or (small and node.op != "aten.full.default"):
            wanted.append(node)
    chosen: set[int] = set()
    while wanted:
        node = wanted.pop()
        if id(node) not in chosen:
            chosen.add(id(node))
            wanted += [producer[value] for value in node.inputs() if value in producer]
    return {id(node): node for node in region.nodes if id(node) in chosen}
