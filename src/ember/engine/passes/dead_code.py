"""Remove the operations whose results nobody reads."""

from __future__ import annotations

from dataclasses import replace

from ember.engine.program import Node, Program, Value


def eliminate_dead_code(program: Program) -> Program:
    """Keep the nodes that the outputs depend on; inputs stay, unused constants go.

    Carries and stacked results of loops that nothing depends on are dropped, and unused closed-over values.
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
    if node.op == "cond":
        kept = [index for index, output in enumerate(node.outputs) if output in needed]
        node = replace(
            node,
            outputs=tuple(node.outputs[index] for index in kept),
            regions=tuple(
                _with_outputs(each, [each.outputs[index] for index in kept]) for each in node.regions
            ),
        )
    else:
        node = _prune_loop(node, needed)
    return _prune_outer(node)


def _prune_loop(node: Node, needed: set[Value]) -> Node:
    """Drop carries and ys that neither the loop's end, nor what is read of its results, depends on."""
    body, carry = node.regions[-1], node.args[0]
    count = len(carry)
    kept = {index for index, output in enumerate(node.outputs) if output in needed}
    # What the condition reads must be computed, and the carries that this needs, and so on.
    start: set[Value] = set()
    if node.op == "while_loop":
        start = _reached(node.regions[0], node.regions[0].outputs)
        kept |= {index for index in range(count) if node.regions[0].inputs[index] in start}
    while True:
        reached = _reached(body, [body.outputs[index] for index in kept])
        more = {index for index in range(count) if body.inputs[index] in reached} - kept
        if not more:
            break
        kept |= more
    if len(kept) == len(node.outputs):
        return node
    order = sorted(kept)
    carried = [index for index in order if index < count]
    regions = []
    for region in node.regions:
        inputs = [region.inputs[index] for index in carried] + region.inputs[count:]
        outputs = [region.outputs[index] for index in order] if region is body else region.outputs
        regions.append(Program(inputs, region.constants, region.nodes, outputs))
    return replace(
        node,
        args=(tuple(carry[index] for index in carried), *node.args[1:]),
        outputs=tuple(node.outputs[index] for index in order),
        regions=tuple(regions),
        attributes={**node.attributes, "num_carry": len(carried)} if node.op == "scan" else node.attributes,
    )


def _reached(program: Program, outputs: list[Value]) -> set[Value]:
    """Return the values that some outputs depend on."""
    reached = set(outputs)
    for node in reversed(program.nodes):
        if any(output in reached for output in node.outputs):
            reached.update(node.inputs())
    return reached


def _prune_outer(node: Node) -> Node:
    """Clean the regions, and close only over what they read."""
    regions = [eliminate_dead_code(each) for each in node.regions]
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
            _with_inputs(each, each.inputs[:first] + [each.inputs[first + index] for index in keep])
            for each in regions
        ]
    return replace(node, args=(*leading, outer), regions=tuple(regions))


def _with_inputs(program: Program, inputs: list[Value]) -> Program:
    return Program(inputs, program.constants, program.nodes, program.outputs)


def _with_outputs(program: Program, outputs: list[Value]) -> Program:
    return Program(program.inputs, program.constants, program.nodes, outputs)


def _read_values(program: Program) -> set[Value]:
    reads = set(program.outputs)
    for node in program.nodes:
        reads.update(node.inputs())
    return reads
