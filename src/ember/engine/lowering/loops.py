"""Emit loops over index spaces, the innermost in lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import index as ix
from .counting import counting
from .elements import Reg, const, vector_literal
from .index import Linear, Var
from .kernel import Kernel
from .tensors import Index, spread, squeeze

UNROLLED_CHUNKS = 4  # innermost loops of at most this many vectors become straight code
UNROLLED_STEPS = 4  # outer loops of at most this many steps do, if the loops inside are straight
Body = Callable[[list[Linear]], None]


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


def loop(
    k: Kernel,
    extent: int,
    lanes: int,
    body: Callable[[Linear], None],
    unroll: bool = False,
    start: int = 0,
) -> None:
    """Emit one loop; with several lanes the last iteration is masked, or done singly where masks are slow."""
    if extent == 0:
        return
    if lanes > 1 and not k.masked_tails and extent % lanes:
        whole = extent - extent % lanes
        if whole:
            counted(k, 0, whole, lanes, lanes, body, extent)
        counted(k, whole, extent, 1, 1, body, extent)
        return
    counted(k, start, extent, lanes, lanes, body, extent, unroll)


def counted(
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
    k: Kernel,
    start: Linear,
    count: int,
    extent: int,
    lanes: int,
    body: Callable[[Linear], None],
    height: int,
    tile: Callable[[Linear], None],
) -> None:
    """Loop over ``count`` rows from ``start``, those that exist; ``count`` is a multiple of the lanes.

    :param height: if not 0, ``tile`` takes that many rows at once, a power of two, as long as there are.
    """
    first = k.index_value(start)
    stop = k.add(first, const(count, "i64"))
    stop = k.select(k.compare("gt", stop, const(extent, "i64")), const(extent, "i64"), stop)
    if height:
        whole_rows = k.binary("and", k.sub(stop, first), const(-height, "i64"))
        full = k.add(first, whole_rows)
        _dynamic(k, first, full, height, 1, extent, tile)
        if extent % height:
            _dynamic(k, full, stop, 1, 1, extent, body)
    elif lanes > 1 and extent % lanes and not k.masked_tails:
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
    with counting(k, first, stop, step) as counter:
        var = Var(counter.text, 0, extent - 1, lanes)
        mask = k.mask
        if lanes > 1 and extent % lanes:
            k.mask = k.compare("lt", k.index_value(ix.of(var)), const(extent, "i64"))
        body(ix.of(var))
        k.mask = mask


def scalar_nest(k: Kernel, space: Sequence[int], body: Body) -> None:
    """Run ``body`` over a space one element at a time."""

    def level(depth: int, variables: list[Linear]) -> None:
        if depth == len(space):
            body(variables)
        else:
            loop(k, space[depth], 1, lambda variable: level(depth + 1, [*variables, variable]))

    level(0, [])
