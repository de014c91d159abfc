"""Lower loops and conditions."""

from __future__ import annotations

from collections.abc import Sequence

from ember.engine.program import Program, Value

from .builder import Builder, operation
from .elements import Reg
from .kernel import Kernel
from .regions import Condition, Scan, WhileLoop
from .schedule import chain_start
from .tensors import Index, Tensor


def _inside(b: Builder, region: Program, inputs: Sequence[Tensor]) -> Builder:
    """Lower a region whose inputs are these tensors."""
    child = Builder(b)
    child.values.update(zip(region.inputs, inputs, strict=True))
    child.run(region)
    return child


def _carries(b: Builder, outputs: Sequence[Tensor]) -> list[Tensor]:
    """Make tensors that stand, inside a loop, for its carry, in the memory of the loop's outputs."""
    carries = []
    for output in outputs:
        carry = Tensor(output.shape, output.kind)
        carry.home = output
        carries.append(carry)
    return carries


@operation("while_loop")
def _while_loop(b: Builder, init: Sequence[Tensor], outer: Sequence[Tensor]) -> list[Tensor]:
    condition_region, body_region = b.current.regions
    outputs = [b.new(each.shape, each.kind) for each in init]
    carries = _carries(b, outputs)
    condition = _inside(b, condition_region, [*carries, *outer])
    condition.block.outputs = [condition.values[value] for value in condition_region.outputs]
    body = _inside(b, body_region, [*carries, *outer])
    body.block.outputs = body.results(body_region.outputs, carries)
    stage = WhileLoop(init, outer, outputs, condition.block, body.block)
    stage.polls = b.parent is None
    b.add(stage)
    return outputs


@operation("cond")
def _cond(b: Builder, predicate: Tensor, outer: Sequence[Tensor]) -> list[Tensor]:
    outputs = [b.new(value.shape, b.kind(value.dtype)) for value in b.current.outputs]
    branches = [_inside(b, region, outer) for region in b.current.regions]
    homes = _homes(branches, [region.outputs for region in b.current.regions], outer)
    for branch, region in zip(branches, b.current.regions, strict=True):
        branch.block.outputs = branch.results(region.outputs, homes)
    shared = [(home, output) for home, output in zip(homes, outputs, strict=True) if home is not None]
    b.add(Condition(predicate, outer, outputs, branches[0].block, branches[1].block, shared))
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
    outputs = [b.new(value.shape, b.kind(value.dtype)) for value in b.current.outputs]
    carries = _carries(b, outputs[: len(init)])
    counter = Tensor((), "i64")
    child = Builder(b)
    slices = [_slice(child, x, counter, length) for x in xs]
    child.values.update(zip(region.inputs, [*carries, *slices, *outer], strict=True))
    child.run(region)
    count = len(init)
    child.block.outputs = child.results(region.outputs, [*carries, *[None] * (len(region.outputs) - count)])
    stage = Scan(init, [*xs, *outer], outputs, child.block, counter, length, reverse)
    stage.polls = b.parent is None
    b.add(stage)
    return outputs


def _slice(b: Builder, x: Tensor, counter: Tensor, length: int) -> Tensor:
    def emit(k: Kernel, index: Index) -> Reg:
        position = k.opaque(k.read(counter, ()), 0, length - 1)
        return k.read(x, (position, *index))

    return b.map(x.shape[1:], x.kind, [(x, False), (counter, False)], emit, 1)
