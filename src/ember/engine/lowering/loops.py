"""Emit the loop nest of a group of stages that share an iteration space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from . import index as ix
from .elements import Reg, const, type_name
from .index import ZERO, Linear, Var
from .kernel import Kernel, NeedsNested
from .tensors import Index, Map, MapStage, Prefix, Reduce, Scatter, Stage, Tensor, memory_of, spread, squeeze
from .text import vector_literal

UNROLLED_CHUNKS = 4  # innermost loops of at most this many vectors become straight code
UNROLLED_STEPS = 4  # outer loops of at most this many steps do, if the loops inside are straight

Body = Callable[[list[Linear]], None]


def _prepare(k: Kernel, members: Sequence[Stage]) -> None:
    for stage in members:
        if isinstance(stage, Scatter):
            _copy_base(k, stage)
        elif isinstance(stage, Reduce) and not _in_registers(stage):
            _fill_identity(k, stage)


def emit_chain(k: Kernel, parts: Sequence[Sequence[Stage]], num_rows: int, block_rows: int) -> None:
    """Emit several nests over the same rows, which take turns on blocks of these."""
    for members in parts:
        _prepare(k, members)
    nests = [_Nest(k, members, members[0].space or ()) for members in parts]
    for nest in nests:
        nest.open_level(0)

    def block(start: Linear) -> None:
        for nest in nests:
            k.members = set(nest.members)
            nest.rows(start, block_rows, num_rows)
        k.members = set()

    _counted(k, 0, num_rows, block_rows, 1, block, num_rows)
    for nest in nests:
        nest.close_level(0, [])


def emit_group(k: Kernel, members: Sequence[Stage]) -> None:
    """Emit all members of a group in one loop nest."""
    space = members[0].space or ()
    k.members = set(members)
    try:
        _prepare(k, members)
        if len(space) > 1 and all(_flattens(stage) for stage in members) and _try_flat(k, members, space):
            return
        _Nest(k, members, space).run()
    finally:
        k.members = set()


def _flattens(stage: Stage) -> bool:
    return isinstance(stage, (MapStage, Scatter)) or (isinstance(stage, Reduce) and all(stage.reduced))


def _try_flat(k: Kernel, members: Sequence[Stage], space: tuple[int, ...]) -> bool:
    lines, entry, block = len(k.lines), len(k.entry), k.block
    keys_before = dict(k._memo)
    undo = [list(keys) for keys in k._undo]
    pointers = dict(k._entry_values)
    bad = k._bad
    try:
        _Nest(k, members, (math.prod(space),), space).run()
    except NeedsNested:
        del k.lines[lines:], k.entry[entry:]
        k.block, k._memo, k._undo, k._entry_values, k._bad = block, keys_before, undo, pointers, bad
        k.mask = k.guard = k.flat = None
        k.accumulators.clear()
        return False
    return True


def _in_registers(stage: Reduce) -> bool:
    """Say whether all reduced dimensions are inside all kept ones."""
    reduced = stage.reduced
    return True not in reduced or all(reduced[reduced.index(True) :])


def pointwise_loop(k: Kernel, shape: Sequence[int], body: Callable[[Index], None]) -> None:
    """Run ``body`` at every index of ``shape``, innermost dimension in lanes."""
    space = squeeze(shape)

    def place(variables: list[Linear]) -> None:
        body(spread(variables, shape))

    loop_nest(k, space, place)


def loop_nest(k: Kernel, space: Sequence[int], body: Body) -> None:
    """Run ``body`` over a space without reductions."""

    def level(depth: int, variables: list[Linear]) -> None:
        if depth == len(space):
            body(variables)
            return
        loop(
            k,
            space[depth],
            k.lanes if depth == len(space) - 1 else 1,
            lambda variable: level(depth + 1, [*variables, variable]),
        )

    level(0, [])


def loop(k: Kernel, extent: int, lanes: int, body: Callable[[Linear], None], unroll: bool = False) -> None:
    """Emit one loop; with several lanes the last iteration is masked, or done singly where masks are slow."""
    if extent == 0:
        return
    if lanes > 1 and not k.masked_tails and extent % lanes:
        whole = extent - extent % lanes
        if whole:
            _counted(k, 0, whole, lanes, lanes, body, extent)
        _counted(k, whole, extent, 1, 1, body, extent)
        return
    _counted(k, 0, extent, lanes, lanes, body, extent, unroll)


def _counted(
    k: Kernel,
    start: int,
    stop: int,
    step: int,
    lanes: int,
    body: Callable[[Linear], None],
    extent: int,
    unroll: bool = False,
) -> None:
    trips = -((start - stop) // step)
    if trips <= (UNROLLED_CHUNKS if lanes > 1 else 1) or (unroll and trips <= UNROLLED_STEPS):
        for base in range(start, stop, step):
            mask = k.mask
            if base + lanes > stop:
                active = [int(base + lane < stop) for lane in range(lanes)]
                k.mask = Reg(vector_literal(active, "i1"), "i1", lanes)
            variable = k.known_var(base, stop, lanes)
            body(ix.of(variable))
            k.mask = mask
        return
    counter_name = k.name()
    head, latch, done = k.label("loop"), k.label("latch"), k.label("done")
    before = k.block
    k.jump(head)
    k.start(head)
    next_name = k.name()
    k.lines.append(f"  {counter_name} = phi i64 [ {start}, %{before} ], [ {next_name}, %{latch} ]")
    var = Var(counter_name, start, stop - 1, lanes)
    counter = ix.of(var)
    mask = k.mask
    with k.scope():
        if lanes > 1 and (stop - start) % lanes:
            k.mask = k.compare("lt", k.index_value(counter), const(stop, "i64"))
        body(counter)
    k.mask = mask
    k.jump(latch)
    k.start(latch)
    k.line(f"{next_name} = add nuw nsw i64 {counter_name}, {step}")
    flag = k.fresh(f"icmp slt i64 {next_name}, {stop}", "i1")
    k.branch(flag, head, done)
    k.start(done)


def loop_rows(
    k: Kernel, start: Linear, count: int, extent: int, lanes: int, body: Callable[[Linear], None]
) -> None:
    """Loop over ``count`` rows from ``start``, those that exist; ``count`` is a multiple of the lanes."""
    first = k.index_value(start)
    stop = k.add(first, const(count, "i64"))
    stop = k.select(k.compare("gt", stop, const(extent, "i64")), const(extent, "i64"), stop)
    if lanes > 1 and extent % lanes and not k.masked_tails:
        # Whole vectors first, then the rest of the last block singly.
        whole = extent - extent % lanes
        full = k.select(k.compare("gt", stop, const(whole, "i64")), const(whole, "i64"), stop)
        _dynamic(k, first, full, lanes, lanes, extent, body)
        tail = k.select(k.compare("gt", first, full), first, full)
        _dynamic(k, tail, stop, 1, 1, extent, body)
    else:
        _dynamic(k, first, stop, lanes, lanes, extent, body)


def _dynamic(
    k: Kernel, first: Reg, stop: Reg, step: int, lanes: int, extent: int, body: Callable[[Linear], None]
) -> None:
    """Emit a loop with bounds known when it runs; it may make no step."""
    head, inside, latch, done = k.label("rows"), k.label("row"), k.label("latch"), k.label("done")
    counter, following = k.name(), k.name()
    before = k.block
    k.jump(head)
    k.start(head)
    k.lines.append(
        f"  {counter} = phi i64 [ {first.text}, %{before} ], [ {following}, %{latch} ]"
    )
    more = k.fresh(f"icmp slt i64 {counter}, {stop.text}", "i1")
    k.branch(more, inside, done)
    k.start(inside)
    var = Var(counter, 0, extent - 1, lanes)
    mask = k.mask
    with k.scope():
        if lanes > 1 and extent % lanes:
            k.mask = k.compare("lt", k.index_value(ix.of(var)), const(extent, "i64"))
        body(ix.of(var))
    k.mask = mask
    k.jump(latch)
    k.start(latch)
    k.line(f"{following} = add nuw nsw i64 {counter}, {step}")
    k.jump(head)
    k.start(done)


def _copy_base(k: Kernel, stage: Scatter) -> None:
    output, base = stage.outputs[0], stage.base
    if memory_of(output) is memory_of(base):
        return
    members, k.members = k.members, set()
    with k.scope():
        _flat_or_nested(k, output.shape, lambda index: k.write(output, index, k.read(base, index)))
    k.members = members


def _flat_or_nested(k: Kernel, shape: Sequence[int], body: Callable[[Index], None]) -> None:
    pointwise_loop(k, shape, body)


def _fill_identity(k: Kernel, stage: Reduce) -> None:
    for output, init in zip(stage.outputs, stage.init, strict=True):
        with k.scope():
            flat = Tensor((output.numel,), output.kind)
            flat.home = output
            pointwise_loop(k, flat.shape, lambda index, t=flat, v=init: k.write(t, index, v))  # type: ignore[misc]


class _Nest:
    """One loop nest with the accumulators of its reductions."""

    def __init__(
        self,
        k: Kernel,
        members: Sequence[Stage],
        space: tuple[int, ...],
        original: tuple[int, ...] | None = None,
    ) -> None:
        self.k = k
        self.members = members
        self.space = space
        self.original = original
        self.opened: dict[int, list[Reduce]] = {}
        for stage in members:
            if isinstance(stage, Reduce) and _accumulates(stage, original):
                self.opened.setdefault(self.first_level(stage), []).append(stage)

    def first_level(self, stage: Reduce) -> int:
        """Return the loop level around which the stage's registers live."""
        if self.original is not None:
            return 0
        reduced = stage.reduced
        level = len(reduced)
        while level and reduced[level - 1]:
            level -= 1
        return level

    def run(self) -> None:
        self.level(0, [])

    def open_level(self, depth: int) -> None:
        for stage in self.opened.get(depth, []):
            self.open(stage, depth)

    def close_level(self, depth: int, variables: list[Linear]) -> None:
        for stage in self.opened.get(depth, []):
            self.close(stage, variables)

    def rows(self, start: Linear, block_rows: int, num_rows: int) -> None:
        """Run the loops inside the first one for a block of rows."""
        lanes = self.k.lanes if len(self.space) == 1 else 1
        loop_rows(self.k, start, block_rows, num_rows, lanes, lambda row: self.level(1, [row]))

    def level(self, depth: int, variables: list[Linear]) -> None:
        self.open_level(depth)
        if depth == len(self.space):
            self.body(variables)
        else:
            innermost = depth == len(self.space) - 1
            inner = math.prod(-(-e // self.k.lanes) for e in self.space[depth + 1 :])

            def step(variable: Linear) -> None:
                if self.original is not None:
                    self.k.flat = variable.terms[0][0]
                self.level(depth + 1, [*variables, variable])
                self.k.flat = None

            loop(
                self.k,
                self.space[depth],
                self.k.lanes if innermost else 1,
                step,
                unroll=not innermost and inner <= UNROLLED_CHUNKS // 2,
            )
        self.close_level(depth, variables)

    def place(self, variables: list[Linear], shape: Sequence[int]) -> Index:
        if self.original is not None:
            variables = list(self.k.divisions.unravel(variables[0], self.original))
        return spread(variables, shape)

    def body(self, variables: list[Linear]) -> None:
        k = self.k
        for stage in self.members:
            if isinstance(stage, MapStage):
                if not stage.virtual:
                    index = self.place(variables, stage.tensor.shape)
                    k.write(stage.tensor, index, k.read(stage.tensor, index))
            elif isinstance(stage, Reduce):
                self.accumulate(stage, variables)
            elif isinstance(stage, Scatter):
                scatter_element(k, stage, self.place(variables, stage.shape))

    # Accumulators -----------------------------------------------------------------------------------------
    def widths(self, depth: int) -> list[int]:
        if depth == len(self.space) or self.space[-1] == 0:
            return [1]
        lanes, extent = self.k.lanes, self.space[-1]
        if lanes == 1:
            return [1]
        if self.k.masked_tails or extent % lanes == 0:
            return [lanes]
        return [lanes, 1] if extent > lanes else [1]

    def open(self, stage: Reduce, depth: int) -> None:
        k = self.k
        for lanes in self.widths(depth):
            key = (stage, lanes)
            if key not in k.accumulators:
                k.accumulators[key] = [k.alloca(init.kind, lanes) for init in stage.init]
            for slot, init in zip(k.accumulators[key], stage.init, strict=True):
                k.line(f"store {type_name(init.kind, lanes)} {k.splat(init, lanes).text}, ptr {slot}")

    def accumulate(self, stage: Reduce, variables: list[Linear]) -> None:
        k = self.k
        values = stage.value(k, self.place(variables, stage.shape))
        lanes = max((var.lanes for form in variables for var, _ in form.terms), default=1)
        if (stage, lanes) not in k.accumulators:
            self.combine_memory(stage, variables, values)
            return
        slots = k.accumulators[stage, lanes]
        old = [
            k.fresh(f"load {type_name(init.kind, lanes)}, ptr {slot}", init.kind, lanes)
            for slot, init in zip(slots, stage.init, strict=True)
        ]
        new = stage.combine(k, old, [k.splat(value, lanes) for value in values])
        for slot, before, after in zip(slots, old, new, strict=True):
            kept = after if k.mask is None or lanes == 1 else k.select(k.mask, after, before)
            kept = k.splat(kept, lanes)
            k.line(f"store {type_name(kept.kind, lanes)} {kept.text}, ptr {slot}")

    def close(self, stage: Reduce, variables: list[Linear]) -> None:
        k = self.k
        total: list[Reg] | None = None
        for lanes in (k.lanes, 1) if k.lanes > 1 else (1,):
            slots = k.accumulators.pop((stage, lanes), None)
            if slots is None:
                continue
            parts = [
                k.fresh(f"load {type_name(init.kind, lanes)}, ptr {slot}", init.kind, lanes)
                for slot, init in zip(slots, stage.init, strict=True)
            ]
            parts = horizontal(k, stage, parts)
            total = parts if total is None else stage.combine(k, total, parts)
        if total is None:
            return
        if _in_registers(stage) or self.original is not None:
            outputs = stage.finish(k, total)
            kept = [v for v, reduced in zip(variables, stage.reduced, strict=False) if not reduced]
            for tensor, reg in zip(stage.outputs, outputs, strict=True):
                self.finish_element(tensor, kept, reg)
        else:
            self.combine_memory(stage, variables, total)

    def finish_element(self, tensor: Tensor, kept: list[Linear], value: Reg) -> None:
        k = self.k
        index = spread(kept, tensor.shape)
        mask, k.mask = k.mask, None
        k.write(tensor, index, value)
        if not kept:
            # A scalar result stays in its register for what follows in the same scope.
            zero = (tensor, tuple(form.key for form in index), None, None)
            k.remember(zero, value)
        k.mask = mask

    def combine_memory(self, stage: Reduce, variables: list[Linear], values: list[Reg]) -> None:
        k = self.k
        kept = [v for v, reduced in zip(variables, stage.reduced, strict=False) if not reduced]
        lanes = max((var.lanes for form in kept for var, _ in form.terms), default=1)
        places = [spread(kept, tensor.shape) for tensor in stage.outputs]
        old = [_load_now(k, tensor, index) for tensor, index in zip(stage.outputs, places, strict=True)]
        new = stage.combine(k, [k.splat(reg, lanes) for reg in old], [k.splat(v, lanes) for v in values])
        for tensor, index, reg in zip(stage.outputs, places, new, strict=True):
            k.write(tensor, index, reg)


def _accumulates(stage: Reduce, original: tuple[int, ...] | None) -> bool:
    return original is not None or not stage.reduced or stage.reduced[-1]


def _load_now(k: Kernel, tensor: Tensor, index: Index) -> Reg:
    """Load from memory that changes, without remembering the value."""
    return k._load(tensor, index)


def horizontal(k: Kernel, stage: Reduce, parts: list[Reg]) -> list[Reg]:
    """Combine the lanes of accumulators, halving their number each time."""
    lanes = parts[0].lanes
    while lanes > 1:
        half = lanes // 2
        low = [k.shuffle(part, list(range(half))) for part in parts]
        high = [k.shuffle(part, list(range(half, lanes))) for part in parts]
        parts = stage.combine(k, low, high)
        lanes = half
    return parts


def scatter_element(k: Kernel, stage: Scatter, index: Index) -> None:
    """Emit the update of one iteration, lane by lane where places may coincide."""
    output = stage.outputs[0]
    place, value, valid = stage.place(k, index)
    position = ix.ravel(place, output.shape)
    lane_terms = [(var, c) for var, c in position.terms if var.lanes > 1]
    consecutive, _, _ = k._pattern(position)
    iteration_lanes = max((var.lanes for form in index for var, _ in form.terms), default=1)
    mask, guard = k.mask, k.guard
    if valid is not None and valid.const is None and valid.lanes > 1:
        k.mask = k.both(mask, valid)
    uniform_skip = valid is not None and valid.const is None and valid.lanes == 1
    if valid is not None and valid.const is False:
        return
    done = None
    if uniform_skip and valid is not None:
        inside, done = k.label("valid"), k.label("after")
        k.branch(valid, inside, done)
        k.start(inside)
    with k.scope():
        if consecutive or (iteration_lanes == 1 and not lane_terms):
            if stage.combine is not None:
                value = stage.combine(k, _load_now(k, output, place), value)
            k.write(output, place, value)
        else:
            _scatter_lanes(k, stage, position, value, iteration_lanes)
    k.mask, k.guard = mask, guard
    if done is not None:
        k.jump(done)
        k.start(done)


def _scatter_lanes(k: Kernel, stage: Scatter, position: Linear, value: Reg, lanes: int) -> None:
    """Update one lane after another; inactive lanes write to a spare cell on the stack."""
    output = stage.outputs[0]
    places = k.splat(k.index_value(position), lanes)
    values = k.splat(value, lanes)
    base = k.pointer(output)
    addresses = k.address(base, output.kind, places)
    full = f"<{lanes} x ptr>"
    if k.mask is not None:
        spare = k.alloca(output.kind)
        splat = k.pure(f"insertelement {full} poison, ptr {spare}, i64 0", "i64", lanes).text
        splat = k.pure(
            f"shufflevector {full} {splat}, {full} poison, <{lanes} x i32> zeroinitializer", "i64", lanes
        ).text
        mask = k.splat(k.mask, lanes).text
        addresses = k.pure(
            f"select <{lanes} x i1> {mask}, {full} {addresses}, {full} {splat}", "i64", lanes
        ).text
    for lane in range(lanes):
        address = k.pure(f"extractelement {full} {addresses}, i64 {lane}", "i64").text
        element = k.extract(values, lane)
        if stage.combine is not None:
            element = stage.combine(k, k.load(address, output.kind, 1, None, False), element)
        k.store(address, element, 1, None)


def emit_prefix(k: Kernel, stage: Prefix) -> None:
    """Emit a cumulative operation: the axis in order, the dimensions inside it in lanes."""
    axis, shape = stage.axis, stage.shape
    outer, inner = shape[:axis], shape[axis + 1 :]
    extent = shape[axis]
    inner_space = squeeze(inner)

    def lanes_body(outer_index: Index) -> Callable[[list[Linear]], None]:
        def at(inner_variables: list[Linear]) -> None:
            inner_index = spread(inner_variables, inner)
            lanes = max((var.lanes for form in inner_variables for var, _ in form.terms), default=1)
            slots = [k.alloca(init.kind, lanes) for init in stage.init]
            for slot, init in zip(slots, stage.init, strict=True):
                k.line(f"store {type_name(init.kind, lanes)} {k.splat(init, lanes).text}, ptr {slot}")

            def step(counter: Linear) -> None:
                along = counter.scale(-1).shift(extent - 1) if stage.reverse else counter
                index = (*outer_index, along, *inner_index)
                old = [
                    k.fresh(f"load {type_name(init.kind, lanes)}, ptr {slot}", init.kind, lanes)
                    for slot, init in zip(slots, stage.init, strict=True)
                ]
                values = [k.splat(value, lanes) for value in stage.value(k, index)]
                new = stage.combine(k, old, values)
                for slot, reg in zip(slots, new, strict=True):
                    k.line(f"store {type_name(reg.kind, lanes)} {k.splat(reg, lanes).text}, ptr {slot}")
                for tensor, reg in zip(stage.outputs, stage.finish(k, new), strict=True):
                    k.write(tensor, index, reg)

            loop(k, extent, 1, step)

        return at

    def outer_body(variables: list[Linear]) -> None:
        loop_nest(k, inner_space, lanes_body(spread(variables, outer)))

    scalar_nest(k, squeeze(outer), outer_body)


def scalar_nest(k: Kernel, space: Sequence[int], body: Body) -> None:
    """Run ``body`` over a space one element at a time."""

    def level(depth: int, variables: list[Linear]) -> None:
        if depth == len(space):
            body(variables)
        else:
            loop(k, space[depth], 1, lambda variable: level(depth + 1, [*variables, variable]))

    level(0, [])


__all__ = ["ZERO", "Map", "emit_group", "emit_prefix", "loop", "loop_nest", "pointwise_loop", "scalar_nest"]
