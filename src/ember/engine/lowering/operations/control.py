"""Lower loops and conditions."""

from __future__ import annotations

from collections.abc import Sequence

from ember.engine.program import Program, Value

from ..block import Block
from ..builder import Builder, operation
from ..elements import Reg
from ..kernel import Kernel
from ..regions import Condition, Scan, WhileLoop
from ..tensors import Index, Map, Tensor, memory_of
from ..updates import chain_start


def _inside(b: Builder, region: Program, inputs: Sequence[Tensor], repeats: bool) -> Builder:
    """Lower a region whose inputs are these tensors."""
    child = Builder(b, repeats)
    child.values.update(zip(region.inputs, inputs, strict=True))
    child.run(region)
    return child


def _carries(b: Builder, init: Sequence[Tensor]) -> list[Tensor]:
    """Make tensors that stand, inside a loop, for its carry."""
    carries = []
    for first in init:
        carry = Tensor(first.shape, first.kind)
        carry.depth = b.depth + 1
        carries.append(carry)
    return carries


def _settle(carries: Sequence[Tensor], outputs: Sequence[Tensor], body: Block) -> None:
    """Keep the carry in the memory of the loop's results."""
    for carry, output, result in zip(carries, outputs, body.outputs, strict=False):
        carry.home = output
        body.carried.append((carry, result))


def _outer(*children: Builder) -> list[Tensor]:
    return list(dict.fromkeys(tensor for child in children for tensor in _reads_outside(child)))


def _reads_outside(child: Builder) -> list[Tensor]:
    """Return the tensors made outside that the block reads or returns."""
    read = list(child.block.outputs)
    for tensor in child.block.made:
        if isinstance(tensor, Map):
            read.extend(operand for operand, _ in tensor.operands)
    for stage in child.block.stages:
        read.extend(operand for operand, _ in stage.operands)
    return [tensor for tensor in dict.fromkeys(read) if tensor.depth < child.depth]


def _results(child: Builder, values: Sequence[Value], homes: Sequence[Tensor | None]) -> list[Tensor]:
    """Return the block's outputs, copied where they would share a carry's memory with another place.

    :param homes: for each output the tensor, given from outside, in whose memory it will be.
    """
    carries = {memory_of(home) for home in homes if home is not None}
    out = []
    for value, home in zip(values, homes, strict=True):
        tensor = child.values[value]
        if tensor is home:
            out.append(tensor)
            continue
        start, steps = chain_start(tensor)
        if home is not None and start is home and steps:
            child.block.donated.add(home)
            child.block.chained.update(steps)
        out.append(child.copy(tensor) if memory_of(tensor) in carries else tensor)
    return out


@operation("while_loop")
def _while_loop(b: Builder, init: Sequence[Tensor], outer: Sequence[Tensor]) -> list[Tensor]:
    condition_region, body_region = b.current.regions
    carries = _carries(b, init)
    condition = _inside(b, condition_region, [*carries, *outer], repeats=True)
    condition.block.outputs = [condition.values[value] for value in condition_region.outputs]
    body = _inside(b, body_region, [*carries, *outer], repeats=True)
    body.block.outputs = _results(body, body_region.outputs, carries)
    outputs = [b.new(each.shape, each.kind) for each in init]
    _settle(carries, outputs, body.block)
    stage = WhileLoop(init, _outer(condition, body), outputs, condition.block, body.block)
    stage.polls = b.parent is None
    b.add(stage)
    return outputs


@operation("cond")
def _cond(b: Builder, predicate: Tensor, outer: Sequence[Tensor]) -> list[Tensor]:
    branches = [_inside(b, region, outer, repeats=False) for region in b.current.regions]
    homes = _homes(branches, [region.outputs for region in b.current.regions], outer)
    for branch, region in zip(branches, b.current.regions, strict=True):
        branch.block.outputs = _results(branch, region.outputs, homes)
    outputs = [b.new(value.shape, b.kind(value.dtype)) for value in b.current.outputs]
    shared = [(home, output) for home, output in zip(homes, outputs, strict=True) if home is not None]
    b.add(Condition(predicate, _outer(*branches), outputs, branches[0].block, branches[1].block, shared))
    return outputs


def _homes(
    branches: Sequence[Builder], results: Sequence[Sequence[Value]], outer: Sequence[Tensor]
) -> list[Tensor | None]:
    """Find, for each result, the operand that both branches return, updated or as it is."""
    homes: list[Tensor | None] = []
    for pair in zip(*results, strict=True):
        starts = [chain_start(branch.values[value])[0] for branch, value in zip(branches, pair, strict=True)]
        first = starts[0]
        same = starts[0] is starts[1] and any(first is each for each in outer) and first not in homes
        homes.append(first if same else None)
    return homes


@operation("scan")
def _scan(b: Builder, init: Sequence[Tensor], xs: Sequence[Tensor], outer: Sequence[Tensor]) -> list[Tensor]:
    length, reverse = b.current.attributes["length"], b.current.attributes["reverse"]
    region = b.current.regions[0]
    carries = _carries(b, init)
    counter = Tensor((), "i64")
    counter.depth = b.depth + 1
    child = Builder(b, repeats=True)
    slices = [_slice(child, x, counter, length) for x in xs]
    child.values.update(zip(region.inputs, [*carries, *slices, *outer], strict=True))
    child.run(region)
    count = len(init)
    child.block.outputs = _results(child, region.outputs, [*carries, *[None] * (len(region.outputs) - count)])
    outputs = [b.new(value.shape, b.kind(value.dtype)) for value in b.current.outputs]
    _settle(carries, outputs, child.block)
    stage = Scan(init, _outer(child), outputs, child.block, counter, length, reverse)
    stage.polls = b.parent is None
    b.add(stage)
    return outputs


def _slice(b: Builder, x: Tensor, counter: Tensor, length: int) -> Tensor:
    def emit(k: Kernel, index: Index) -> Reg:
        position = k.opaque(k.read(counter, ()), 0, length - 1)
        return k.read(x, (position, *index))

    return b.map(x.shape[1:], x.kind, [(x, False), (counter, False)], emit, 1)
