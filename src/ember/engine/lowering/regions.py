"""Emit blocks, and loops and conditions around blocks."""

from __future__ import annotations

from collections.abc import Sequence

from . import access
from . import index as ix
from .block import Block
from .carrying import enter, write_carry
from .elements import Reg, const
from .groups import Group
from .kernel import Kernel
from .loops import pointwise_loop
from .nests import emit_chain, emit_group
from .prefixes import emit_prefix
from .rows import Chain
from .schedule import plan
from .stages import Extern, Prefix, Stage
from .tensors import Tensor, memory_of

LARGEST_FUNCTION = 1500  # rough number of instructions beyond which a function is split


class RegionStage(Stage):
    """Control flow around blocks."""

    def blocks(self) -> tuple[Block, ...]:
        """Return the blocks inside."""
        return ()

    def private(self) -> tuple[Tensor, ...]:
        """Return tensors of its own that live while it runs."""
        return ()

    def buffers(self) -> tuple[Tensor, ...]:
        """Return what stages inside need in memory and is made outside."""
        blocks = self.blocks()
        made = {tensor for block in blocks for tensor in block.made}
        needed = [tensor for block in blocks for stage in block.stages for tensor in stage.buffers()]
        return tuple(tensor for tensor in map(memory_of, needed) if tensor not in made)

    def plan_inside(self) -> None:
        """Plan the blocks inside."""
        for block in self.blocks():
            plan(block)

    def emit(self, k: Kernel) -> None:
        """Emit the control flow."""


def emit_block(k: Kernel, block: Block) -> None:
    """Emit a block into ``k``, or as functions of bounded size called from it."""
    if block.weight <= LARGEST_FUNCTION:
        for group in block.groups:
            _emit(k, group)
        return
    batch: list[Group] = []
    weight = 0
    for group in block.groups:
        if batch and weight + group.weight > LARGEST_FUNCTION:
            _emit_function(k, batch)
            batch, weight = [], 0
        batch.append(group)
        weight += group.weight
    _emit_function(k, batch)


def _emit_function(k: Kernel, groups: Sequence[Group]) -> None:
    if not groups:
        return
    k.module.num_parts += 1
    part = Kernel(k.module, f"part{k.module.num_parts}", k.lanes, k.masked_tails)
    for group in groups:
        _emit(part, group)
    part.finish()
    k.line(f"call void @{part.function_name}(ptr %arena, ptr %table)")


def _emit(k: Kernel, group: Group) -> None:
    first = group.members[0]
    if isinstance(group, Chain):
        parts = [part.members for part in group.parts]
        emit_chain(k, parts, group.num_rows, group.block_rows, group.large)
    elif isinstance(first, RegionStage):
        first.emit(k)
    elif isinstance(first, Extern):
        first.run(k)
    elif isinstance(first, Prefix):
        with k.scope():
            emit_prefix(k, first)
    else:
        emit_group(k, group.members)


class WhileLoop(RegionStage):
    """Repeat a block while another block's result holds."""

    def __init__(
        self,
        init: Sequence[Tensor],
        outer: Sequence[Tensor],
        outputs: Sequence[Tensor],
        condition: Block,
        body: Block,
    ) -> None:
        super().__init__([(tensor, False) for tensor in (*init, *outer)], outputs)
        self.init = tuple(init)
        self.condition = condition
        self.body = body
        self.polls = False

    def updates(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return the first carry with the last."""
        return tuple(zip(self.init, self.outputs, strict=True))

    def blocks(self) -> tuple[Block, ...]:
        return (self.condition, self.body)

    def emit(self, k: Kernel) -> None:
        enter(k, self.init, self.outputs)
        head, inside, done = k.label("while"), k.label("body"), k.label("endwhile")
        if self.polls:
            _progress(k, None)
        k.jump(head)
        k.start(head)
        with k.scope():
            emit_block(k, self.condition)
            flag = k.read(self.condition.outputs[0], tuple(ix.ZERO for _ in self.condition.outputs[0].shape))
            if self.polls:
                flag = k.binary("and", flag, _may_go_on(k))
            k.branch(flag, inside, done)
        k.start(inside)
        with k.scope():
            emit_block(k, self.body)
            write_carry(k, self.body, self.outputs)
            if self.polls:
                _progress(k, 1)
        k.jump(head)
        k.start(done)


class Condition(RegionStage):
    """Run one of two blocks."""

    def __init__(
        self,
        predicate: Tensor,
        outer: Sequence[Tensor],
        outputs: Sequence[Tensor],
        if_true: Block,
        if_false: Block,
        shared: Sequence[tuple[Tensor, Tensor]],
    ) -> None:
        super().__init__([(tensor, False) for tensor in (predicate, *outer)], outputs)
        self.predicate = predicate
        self.if_true = if_true
        self.if_false = if_false
        self.shared = tuple(shared)

    def updates(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return operands with the outputs that are, in both branches, updates of them or they themselves."""
        return self.shared

    def blocks(self) -> tuple[Block, ...]:
        return (self.if_true, self.if_false)

    def emit(self, k: Kernel) -> None:
        flag = k.read(self.predicate, tuple(ix.ZERO for _ in self.predicate.shape))
        yes, no, done = k.label("then"), k.label("else"), k.label("endif")
        k.branch(flag, yes, no)
        for label, block in ((yes, self.if_true), (no, self.if_false)):
            k.start(label)
            with k.scope():
                emit_block(k, block)
                write_carry(k, block, self.outputs)
            k.jump(done)
        k.start(done)


class Scan(RegionStage):
    """Run a block for each slice of sequences."""

    def __init__(
        self,
        init: Sequence[Tensor],
        outer: Sequence[Tensor],
        outputs: Sequence[Tensor],
        body: Block,
        counter: Tensor,
        length: int,
        reverse: bool,
    ) -> None:
        super().__init__([(tensor, False) for tensor in (*init, *outer)], outputs)
        self.init = tuple(init)
        self.body = body
        self.counter = counter
        self.length = length
        self.reverse = reverse
        self.polls = False
        counter.stage = self

    def updates(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return the first carry with the last."""
        return tuple(zip(self.init, self.outputs, strict=False))

    def blocks(self) -> tuple[Block, ...]:
        return (self.body,)

    def private(self) -> tuple[Tensor, ...]:
        return (self.counter,)

    def emit(self, k: Kernel) -> None:
        carries = self.outputs[: len(self.init)]
        enter(k, self.init, carries)
        if self.polls:
            _progress(k, None)
        if self.length == 0:
            return
        first, last, step = (self.length - 1, 0, -1) if self.reverse else (0, self.length - 1, 1)
        access.store(k, k.pointer(self.counter), const(first, "i64"), 1, None)
        head, more, done = k.label("scan"), k.label("next"), k.label("endscan")
        k.jump(head)
        k.start(head)
        with k.scope():
            emit_block(k, self.body)
            position = k.opaque(k.read(self.counter, ()), 0, self.length - 1)
            for result, stacked in zip(
                self.body.outputs[len(carries) :], self.outputs[len(carries) :], strict=True
            ):
                _write_row(k, result, stacked, position)
            write_carry(k, self.body, carries)
            if self.polls:
                _progress(k, 1)
        now = k.fresh(f"load i64, ptr {k.pointer(self.counter)}", "i64")
        finished = k.fresh(f"icmp eq i64 {now.text}, {last}", "i1")
        if self.polls:
            finished = k.binary("or", finished, k.invert(_may_go_on(k)))
        k.branch(finished, done, more)
        k.start(more)
        following = k.fresh(f"add i64 {now.text}, {step}", "i64")
        access.store(k, k.pointer(self.counter), following, 1, None)
        k.jump(head)
        k.start(done)


def _write_row(k: Kernel, result: Tensor, stacked: Tensor, position: ix.Linear) -> None:
    with k.scope():
        if result.numel == 1:
            zeros = tuple(ix.ZERO for _ in result.shape)
            k.write(stacked, (position, *zeros), k.read(result, zeros))
        else:
            pointwise_loop(
                k, result.shape, lambda index: k.write(stacked, (position, *index), k.read(result, index))
            )


def _may_go_on(k: Kernel) -> Reg:
    """Compare the finished iterations with the limit that Python sets, and lowers to interrupt."""
    limit = k.fresh(f"load volatile i64, ptr {k.flags()}", "i64")
    cell = k.fresh(f"getelementptr i64, ptr {k.flags()}, i64 1", "i64").text
    done = k.fresh(f"load volatile i64, ptr {cell}", "i64")
    return k.fresh(f"icmp slt i64 {done.text}, {limit.text}", "i1")


def _progress(k: Kernel, amount: int | None) -> None:
    """Count a finished iteration in the word that Python reads, or reset it."""
    cell = k.fresh(f"getelementptr i64, ptr {k.flags()}, i64 1", "i64").text
    if amount is None:
        k.line(f"store volatile i64 0, ptr {cell}")
        return
    old = k.fresh(f"load volatile i64, ptr {cell}", "i64")
    new = k.fresh(f"add i64 {old.text}, {amount}", "i64")
    k.line(f"store volatile i64 {new.text}, ptr {cell}")
