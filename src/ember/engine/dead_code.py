"""Remove the operations whose results nobody reads."""

from __future__ import annotations

from dataclasses import replace

from ember.engine.program import Node, Program, Value


def eliminate_dead_code(program: Program) -> Program:
    """Keep the nodes that the outputs depend on; inputs stay, unused constants go.

    Outputs of a scan that nobody reads are no longer stacked, and unused closed-over values are dropped.
    """
    needed = set(program.outputs)
    kept: list[Node] = []
    for node in reversed(program.nodes):
        if not any(output in needed for output in node.outputs):
            continue
        if node.regions:
            node = _prune_regions(node, needed)
        kept.append(node)
        needed.update(node.inputs())
    constants = {value: tensor for value, tensor in program.constants.items() if value in needed}
    return Program(program.inputs, constants, kept[::-1], program.outputs)


def _prune_regions(node: Node, needed: set[Value]) -> Node:
    regions, outputs, attributes = list(node.regions), node.outputs, node.attributes
    if node.op == "scan":
        step, count = regions[0], attributes["num_carry"]
        kept = [index for index, output in enumerate(outputs) if index < count or output in needed]
        if len(kept) < len(outputs):
            outputs = tuple(outputs[index] for index in kept)
            regions[0] = Program(
                step.inputs, step.constants, step.nodes, [step.outputs[index] for index in kept]
            )
    elif node.op == "cond":
        kept = [index for index, output in enumerate(outputs) if output in needed]
        outputs = tuple(outputs[index] for index in kept)
        regions = [
            Program(each.inputs, each.constants, each.nodes, [each.outputs[index] for index in kept])
            for each in regions
        ]
    regions = [eliminate_dead_code(each) for each in regions]
    *leading, outer = node.args
    first = len(regions[0].inputs) - len(outer)
    used = [_read_values(each) for each in regions]
    keep = [
        index
        for index in range(len(outer))
        if any(region.inputs[first + index] in reads for region, reads in zip(regions, used, strict=True))
    ]
    if len(keep) < len(outer):
        outer = tuple(outer[index] for index in keep)
        regions = [
            replace_inputs(each, each.inputs[:first] + [each.inputs[first + index] for index in keep])
            for each in regions
        ]
    return replace(node, args=(*leading, outer), regions=tuple(regions), outputs=outputs)


def replace_inputs(program: Program, inputs: list[Value]) -> Program:
    """Return the program with other inputs."""
    return Program(inputs, program.constants, program.nodes, program.outputs)


def _read_values(program: Program) -> set[Value]:
    reads = set(program.outputs)
    for node in program.nodes:
        reads.update(node.inputs())
    return reads
